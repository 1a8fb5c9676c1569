/* The loops of multiply.h for the vector extension (Helium): sixteen products an instruction, the rest of a run
 * predicated. The offset is applied at the end, to the sum of the weights. */
#ifndef MULTIPLY_MVE_H
#define MULTIPLY_MVE_H

#define BLOCK 16

/* To the sums of both channels. */
static inline void add_products(int8x16_t a, int8x16_t b0, int8x16_t b1, int32_t sums[2])
{
    sums[0] = vmladavaq_s8(sums[0], a, b0);
    sums[1] = vmladavaq_s8(sums[1], a, b1);
}

static inline void add_weights(int8x16_t b0, int8x16_t b1, int32_t sums[2])
{
    sums[0] = vaddvaq_s8(sums[0], b0);
    sums[1] = vaddvaq_s8(sums[1], b1);
}

OUTLINE void two_positions(const convolution_t *layer, const window_t *window, int32_t next, int8_t *output)
{
    const finish_t rule = finish_of(layer);
    const int32_t channels = layer->out_c;
    const int32_t size = (int32_t)layer->kernel_h * layer->kernel_w * layer->in_c;
    const int8_t *weights = &layer->weights[window->weight];
    for (int32_t channel = 0; channel < channels; channel += 2) {
        const int32_t second = minimum(channel + 1, channels - 1);
        const int32_t other = (second - channel) * size;
        int32_t here[2] = {layer->bias[channel], layer->bias[second]}, there[2] = {here[0], here[1]};
        int32_t total[2] = {0, 0};
        const int8_t *run_x = window->input, *run_w = weights;
        for (int32_t band = window->bands; band > 0; --band) {
            for (int32_t run = window->runs; run > 0; --run) {
                const int8_t *x = run_x, *w = run_w;
                for (int32_t block = window->count / BLOCK; block > 0; --block) {
                    const int8x16_t b0 = vldrbq_s8(w), b1 = vldrbq_s8(&w[other]);
                    add_products(vldrbq_s8(x), b0, b1, here);
                    add_products(vldrbq_s8(&x[next]), b0, b1, there);
                    add_weights(b0, b1, total);
                    x += BLOCK;
                    w += BLOCK;
                }
                if ((window->count % BLOCK) != 0) {
                    const mve_pred16_t rest = vctp8q((uint32_t)(window->count % BLOCK));
                    const int8x16_t b0 = vldrbq_z_s8(w, rest), b1 = vldrbq_z_s8(&w[other], rest);
                    add_products(vldrbq_z_s8(x, rest), b0, b1, here);
                    add_products(vldrbq_z_s8(&x[next], rest), b0, b1, there);
                    add_weights(b0, b1, total);
                }
                run_x += window->input_run;
                run_w += window->weight_run;
            }
            run_x += window->input_band;
            run_w += window->weight_band;
        }
        const int32_t offset = window->offset;
        const int32_t sum[4] = {here[0] + (offset * total[0]), here[1] + (offset * total[1]),
                                there[0] + (offset * total[0]), there[1] + (offset * total[1])};
        finish_square(&rule, channel, second, sum, output, &output[channels]);
        weights = &weights[2 * size];
    }
}

OUTLINE void one_position(const convolution_t *layer, const window_t *window, int8_t *output)
{
    const finish_t rule = finish_of(layer);
    const int32_t channels = layer->out_c;
    const int32_t size = (int32_t)layer->kernel_h * layer->kernel_w * layer->in_c;
    const int8_t *weights = &layer->weights[window->weight];
    for (int32_t channel = 0; channel < channels; channel += 2) {
        const int32_t second = minimum(channel + 1, channels - 1);
        const int32_t other = (second - channel) * size;
        int32_t here[2] = {layer->bias[channel], layer->bias[second]}, total[2] = {0, 0};
        const int8_t *run_x = window->input, *run_w = weights;
        for (int32_t band = window->bands; band > 0; --band) {
            for (int32_t run = window->runs; run > 0; --run) {
                const int8_t *x = run_x, *w = run_w;
                for (int32_t left = window->count; left > 0; left -= BLOCK) {
                    const mve_pred16_t lanes = vctp8q((uint32_t)left);
                    const int8x16_t b0 = vldrbq_z_s8(w, lanes), b1 = vldrbq_z_s8(&w[other], lanes);
                    add_products(vldrbq_z_s8(x, lanes), b0, b1, here);
                    add_weights(b0, b1, total);
                    x += BLOCK;
                    w += BLOCK;
                }
                run_x += window->input_run;
                run_w += window->weight_run;
            }
            run_x += window->input_band;
            run_w += window->weight_band;
        }
        const int32x4_t sum = {here[0] + (window->offset * total[0]), here[1] + (window->offset * total[1]), 0, 0};
        finish_lanes(&rule, channel, sum, vctp32q((uint32_t)(channels - channel)) & vctp32q(2), &output[channel]);
        weights = &weights[2 * size];
    }
}

#endif
