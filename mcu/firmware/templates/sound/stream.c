/* The application: listen, step by step, and act on every result. Replace the two functions by your own. */
#include "frontend.h"
#include "model.h"

#include <stdint.h>

static int16_t heard[FRONTEND_STEP]; /* the sound of a step */
static volatile int32_t decision;    /* volatile: somebody outside this program looks at it */

static void read_microphone(int16_t *samples, int32_t count)
{
    for (int32_t i = 0; i < count; ++i) {
        samples[i] = 0;
    }
}

/* As of a classifier: the largest output is the class. A model card says how those of other tasks are read. */
static void act(const int8_t *output)
{
    int32_t best = 0;
    for (int32_t i = 1; i < MODEL_OUTPUT_BYTES; ++i) {
        if (output[i] > output[best]) {
            best = i;
        }
    }
    decision = best;
}

int main(void)
{
    int32_t steps = 0;
    for (;;) {
        read_microphone(heard, FRONTEND_STEP);
        frontend_push(heard, model_input());
        model_run();
        if (steps < FRONTEND_WARM_UP) {
            ++steps;
        } else {
            act(model_output());
        }
    }
}
