/* The application: listen, run front end and network, act. Replace the two functions by your own. */
#include "frontend.h"
#include "model.h"

#include <stdint.h>

static int16_t window[FRONTEND_WINDOW]; /* all of the sound that is kept */
static volatile int32_t decision;       /* volatile: somebody outside this program looks at it */

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

/* Move the window on by one stride. */
static void next_window(void)
{
#if FRONTEND_STRIDE < FRONTEND_WINDOW
    const int32_t kept = FRONTEND_WINDOW - FRONTEND_STRIDE;
    for (int32_t i = 0; i < kept; ++i) {
        window[i] = window[i + FRONTEND_STRIDE];
    }
    read_microphone(&window[kept], FRONTEND_STRIDE);
#else
    for (int32_t i = FRONTEND_WINDOW; i < FRONTEND_STRIDE; ++i) {
        read_microphone(window, 1);
    }
    read_microphone(window, FRONTEND_WINDOW);
#endif
}

/* A clip as the network's input, frame by frame as the sound comes in. */
static void listen(int8_t *input)
{
    read_microphone(window, FRONTEND_WINDOW);
    for (int32_t frame = 0; frame < FRONTEND_FRAMES; ++frame) {
        if (frame > 0) {
            next_window();
        }
        frontend_hear(frame, window, input);
    }
}

int main(void)
{
    for (;;) {
        listen(model_input());
        model_run();
        act(model_output());
    }
}
