/* Runs the test vectors, compares every output value, and reports one line per fact. Exit status 0: all equal. */
#include "kernels.h"
#include "model.h"
#include "platform.h"
#include "vectors.h"

#include <stdint.h>

#define CALIBRATION_LOOPS 100000U
#define DIGITS 12

#if defined(MODEL_PROFILE)
static uint32_t layer_ticks[MODEL_LAYERS], last_clock; /* a layer that runs by strips is done several times */

void model_layer_done(int32_t layer)
{
    const uint32_t now = platform_clock();
    layer_ticks[layer] += now - last_clock;
    last_clock = now;
}
#endif

static void print_number(int32_t value)
{
    char text[DIGITS];
    int32_t at = DIGITS - 1;
    uint32_t rest = (value < 0) ? (0U - (uint32_t)value) : (uint32_t)value;
    text[at] = '\0';
    do {
        --at;
        text[at] = (char)('0' + (char)(rest % 10U));
        rest /= 10U;
    } while (rest != 0U);
    if (value < 0) {
        --at;
        text[at] = '-';
    }
    platform_print(&text[at]);
}

static void print_fact(const char *name, int32_t value)
{
    platform_print(name);
    platform_print(" ");
    print_number(value);
    platform_print("\n");
}

static void print_values(const int8_t *values, int32_t count)
{
    for (int32_t i = 0; i < count; ++i) {
        platform_print(" ");
        print_number(values[i]);
    }
}

static void print_outputs(void)
{
#if defined(PRINT_OUTPUTS)
    platform_print("output");
    vectors_show(print_values);
    platform_print("\n");
#else
    (void)print_values;
    (void)vectors_show;
#endif
}

/* Ticks of a known number of instructions; the difference of two lengths cancels the calls around them. */
static void calibrate(void)
{
    platform_clock_start();
    const uint32_t start = platform_clock();
    platform_busy(CALIBRATION_LOOPS);
    const uint32_t middle = platform_clock();
    platform_busy(3U * CALIBRATION_LOOPS);
    const uint32_t end = platform_clock();
    print_fact("calibration_instructions", (int32_t)(4U * CALIBRATION_LOOPS));
    print_fact("calibration_ticks", (int32_t)((end - middle) - (middle - start)));
}

static int32_t run_sample(int32_t sample)
{
    vectors_feed(sample);
    platform_clock_start();
    const uint32_t start = platform_clock();
#if defined(MODEL_PROFILE)
    for (int32_t layer = 0; layer < MODEL_LAYERS; ++layer) {
        layer_ticks[layer] = 0U;
    }
    last_clock = platform_clock();
#endif
    model_run();
    const uint32_t end = platform_clock();
    if (end == PLATFORM_CLOCK_OVERFLOW) {
        print_fact("clock_overflow", sample);
    }
    print_fact("ticks", (int32_t)(end - start));
    print_outputs();
    return vectors_differ(sample);
}

int main(void)
{
    int32_t wrong = 0;
    calibrate();
    platform_stack_paint();
    model_run();
    print_fact("stack", (int32_t)platform_stack_used());
    for (int32_t sample = 0; sample < VECTORS; ++sample) {
        wrong += run_sample(sample);
    }
#if defined(MODEL_PROFILE)
    for (int32_t layer = 0; layer < MODEL_LAYERS; ++layer) {
        print_fact("layer_ticks", (int32_t)layer_ticks[layer]);
    }
#endif
    print_fact("samples", VECTORS);
    print_fact("wrong", wrong);
    platform_exit((wrong == 0) ? 0 : 1);
    return 0;
}
