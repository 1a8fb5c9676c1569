/* Raw clips, or a recording step by step, through front end and network: prints the label of each, its output codes plus
 * 128, and the instructions of both parts. */
#include "frontend.h"
#include "platform.h"

#include <stdint.h>

#if defined(FRONTEND_ALONE) /* no network: what the front end alone costs */
#define MODEL_OUTPUT_BYTES 1
static int8_t codes[FRONTEND_FRAMES * FRONTEND_VALUES] __attribute__((used)); /* counted with and without */

static int8_t *model_input(void)
{
    return codes;
}

static void model_run(void)
{
}

static const int8_t *model_output(void)
{
    return codes;
}
#else
#include "model.h"
#endif

#if defined(FRONTEND_NONE) /* nor a front end: what is there without it */
void frontend_run(const int16_t *samples, int8_t *input)
{
    input[0] = (int8_t)samples[0];
}
#endif

#if defined(FRONTEND_HOP)
#define HEARD FRONTEND_STEP
#define hear frontend_push
#else
#define HEARD FRONTEND_SAMPLES
#define hear frontend_run
#endif

#if !defined(STEP) /* samples from clip to clip */
#define STEP HEARD
#endif

#define CALIBRATION_LOOPS 100000U
#define DIGITS 12

extern const int16_t clips[], clips_end[];

__asm(".section .rodata\n"
      ".balign 4\n"
      ".global clips\n"
      "clips:\n"
      ".incbin \"clips.bin\"\n"
      ".global clips_end\n"
      "clips_end:\n"
      ".text\n");

static void print_fact(const char *name, int32_t value)
{
    char text[DIGITS];
    int32_t at = DIGITS - 1;
    uint32_t rest = (uint32_t)value;
    text[at] = '\0';
    do {
        --at;
        text[at] = (char)('0' + (char)(rest % 10U));
        rest /= 10U;
    } while (rest != 0U);
    platform_print(name);
    platform_print(" ");
    platform_print(&text[at]);
    platform_print("\n");
}

static int32_t best(const int8_t *scores)
{
    int32_t found = 0;
    for (int32_t i = 1; i < MODEL_OUTPUT_BYTES; ++i) {
        found = (scores[i] > scores[found]) ? i : found;
    }
    return found;
}

int main(void)
{
    platform_clock_start();
    const uint32_t start = platform_clock();
    platform_busy(CALIBRATION_LOOPS);
    const uint32_t middle = platform_clock();
    platform_busy(3U * CALIBRATION_LOOPS);
    const uint32_t end = platform_clock();
    print_fact("calibration_instructions", (int32_t)(4U * CALIBRATION_LOOPS));
    print_fact("calibration_ticks", (int32_t)((end - middle) - (middle - start)));
    for (const int16_t *clip = clips; (clips_end - clip) >= HEARD; clip += STEP) {
        platform_clock_start();
        const uint32_t before = platform_clock();
        hear(clip, model_input());
        const uint32_t between = platform_clock();
        model_run();
        const uint32_t after = platform_clock();
        if (after == PLATFORM_CLOCK_OVERFLOW) {
            print_fact("clock_overflow", 1);
        }
        print_fact("label", best(model_output()));
        for (int32_t i = 0; i < MODEL_OUTPUT_BYTES; ++i) {
            print_fact("output", model_output()[i] - INT8_MIN);
        }
        print_fact("frontend_ticks", (int32_t)(between - before));
        print_fact("model_ticks", (int32_t)(after - between));
    }
    platform_exit(0);
    return 0;
}
