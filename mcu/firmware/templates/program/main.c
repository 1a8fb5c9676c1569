/* The application: read the sensor, run the network, act. Replace the two functions by your own. */
#include "model.h"

#include <stdint.h>
#include <string.h>

static volatile int32_t decision; /* volatile: somebody outside this program looks at it */

static void read_sensor(int8_t *input)
{
    (void)memset(input, MODEL_INPUT_ZERO_POINT, MODEL_INPUT_BYTES);
}

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
    for (;;) {
        read_sensor(model_input());
        model_run();
        act(model_output());
    }
}
