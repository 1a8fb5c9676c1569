/* Runs programs, which are tables of steps: the same code for every model. */
#include "kernels.h"

#if defined(MODEL_PROFILE)
#define LAYER_DONE(step) model_layer_done((step)->number)
#else
#define LAYER_DONE(step) ((void)0)
#endif

static inline void run_step(const step_t *step, const int8_t *input, const int8_t *second, int8_t *output)
{
    const FLASH void *const layer = step->layer;
    if (second == NULL) {
        step->kernel.of_one(layer, input, output);
    } else {
        step->kernel.of_two(layer, input, second, output);
    }
    LAYER_DONE(step);
}

void run_program(const program_t *program)
{
    const step_t *step = program->steps;
    for (index_t left = program->count; left > 0; --left) {
        run_step(step, step->input, step->second, step->output);
        ++step;
    }
}

void strips(const FLASH void *description, const int8_t *input, int8_t *output)
{
    const strips_t *const run = description;
    (void)input;
    (void)output;
    for (index_t turn = 0; turn < run->turns; ++turn) {
        const strip_step_t *at = run->steps;
        for (index_t left = run->count; left > 0; --left) {
            const int8_t *from = at->step.input, *second = at->step.second;
            int8_t *to = at->step.output;
            const move_t *const move = at->move;
            if (move != NULL) {
                from += turn * move->input;
                to += turn * move->output;
                second = (second == NULL) ? NULL : &second[turn * move->second];
            }
            run_step(&at->step, from, second, to);
            ++at;
        }
    }
}
