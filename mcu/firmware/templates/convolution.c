/* Convolution without im2col: a window's rows are runs of contiguous int8 values in the input itself. */
#include "kernels.h"

#include "multiply.h"
#include "window.h"

#if defined(__ARM_ARCH_6M__)
#define PAIRS 0 /* eight registers do not hold two windows */
#else
#define PAIRS 1
#endif

/* Sums of two output channels over the runs of one window, or of two windows `next` values apart. `origin` is
 * the index of the window's first tap, which may lie outside the input; clipped taps are never formed. */
static inline void accumulate(const convolution_t *layer, const clip_t *clip, const int8_t *input, int32_t origin,
                              int32_t next, const int8_t *weights, int32_t other, int32_t *sum)
{
    const int32_t in_c = layer->in_c;
    const int32_t taps = (layer->dilation_w == 1) ? (clip->column_end - clip->column) : 1;
    for (int32_t row = clip->row; row < clip->row_end; ++row) {
        for (int32_t column = clip->column; column < clip->column_end; column += taps) {
            const int32_t at = (row * layer->dilation_h * layer->in_w) + (column * layer->dilation_w);
            const int8_t *const x = &input[origin + (at * in_c)];
            const int8_t *const w = &weights[((row * layer->kernel_w) + column) * in_c];
            if (next != 0) {
                multiply_2x2(x, &x[next], w, &w[other], taps * in_c, layer->in_offset, sum);
            } else {
                multiply_1x2(x, w, &w[other], taps * in_c, layer->in_offset, sum);
            }
        }
    }
}

/* All output channels at one position. An odd last channel is computed beside itself. */
static void one_position(const convolution_t *layer, const clip_t *clip, const int8_t *input, int32_t origin,
                         int8_t *output)
{
    const int32_t size = (int32_t)layer->kernel_h * layer->kernel_w * layer->in_c;
    for (int32_t channel = 0; channel < layer->out_c; channel += 2) {
        const int32_t second = minimum(channel + 1, layer->out_c - 1);
        int32_t sum[2] = {layer->bias[channel], layer->bias[second]};
        accumulate(layer, clip, input, origin, 0, &layer->weights[channel * size], (second - channel) * size, sum);
        output[channel] = finish(layer, channel, sum[0]);
        output[second] = finish(layer, second, sum[1]);
    }
}

/* All output channels at two neighbouring positions whose windows are clipped alike. */
static void two_positions(const convolution_t *layer, const clip_t *clip, const int8_t *input, int32_t origin,
                          int8_t *output)
{
    const int32_t size = (int32_t)layer->kernel_h * layer->kernel_w * layer->in_c;
    const int32_t next = (int32_t)layer->stride_w * layer->in_c;
    int8_t *const output_next = &output[layer->out_c];
    for (int32_t channel = 0; channel < layer->out_c; channel += 2) {
        const int32_t second = minimum(channel + 1, layer->out_c - 1);
        const int32_t bias = layer->bias[channel], bias_second = layer->bias[second];
        int32_t sum[4] = {bias, bias_second, bias, bias_second};
        accumulate(layer, clip, input, origin, next, &layer->weights[channel * size], (second - channel) * size,
                   sum);
        output[channel] = finish(layer, channel, sum[0]);
        output[second] = finish(layer, second, sum[1]);
        output_next[channel] = finish(layer, channel, sum[2]);
        output_next[second] = finish(layer, second, sum[3]);
    }
}

void convolution(const convolution_t *layer, const int8_t *input, int8_t *output)
{
    int8_t *out = output;
    clip_t clip;
    for (int32_t y = 0; y < layer->out_h; ++y) {
        const int32_t top = (y * layer->stride_h) - layer->pad_top;
        clip.row = first_tap(top, layer->dilation_h);
        clip.row_end = end_tap(top, layer->dilation_h, layer->kernel_h, layer->in_h);
        int32_t x = 0;
        while (x < layer->out_w) {
            const int32_t left = (x * layer->stride_w) - layer->pad_left;
            const int32_t last_of_next = left + layer->stride_w + ((layer->kernel_w - 1) * layer->dilation_w);
            const int32_t origin = ((top * layer->in_w) + left) * layer->in_c;
            clip.column = first_tap(left, layer->dilation_w);
            clip.column_end = end_tap(left, layer->dilation_w, layer->kernel_w, layer->in_w);
            if ((PAIRS != 0) && ((x + 1) < layer->out_w) && (left >= 0) && (last_of_next < layer->in_w)) {
                two_positions(layer, &clip, input, origin, out);
                out = &out[2 * layer->out_c];
                x += 2;
            } else {
                one_position(layer, &clip, input, origin, out);
                out = &out[layer->out_c];
                x += 1;
            }
        }
    }
}
