/* Convolution without im2col: a window's rows are runs of contiguous int8 values in the input itself. */
#include "kernels.h"

#include "multiply.h"

#if defined(__ARM_ARCH_6M__)
#define PAIRS 0 /* eight registers do not hold two windows */
#else
#define PAIRS 1
#endif

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
            clip.column = first_tap(left, layer->dilation_w);
            clip.column_end = end_tap(left, layer->dilation_w, layer->kernel_w, layer->in_w);
            const window_t window = window_of(layer, &clip, input, top, left, layer->dilation_w > 1);
            if ((PAIRS != 0) && ((x + 1) < layer->out_w) && (left >= 0) && (last_of_next < layer->in_w)) {
                two_positions(layer, &window, (int32_t)layer->stride_w * layer->in_c, out);
                out = &out[2 * layer->out_c];
                x += 2;
            } else {
                one_position(layer, &window, out);
                out = &out[layer->out_c];
                x += 1;
            }
        }
    }
}

/* One output channel of a grouped convolution at one position. */
static int32_t grouped_sum(const convolution_t *layer, const clip_t *clip, const int8_t *input, const int8_t *weights,
                           int32_t count)
{
    int32_t sum = 0;
    for (int32_t row = clip->row; row < clip->row_end; ++row) {
        for (int32_t column = clip->column; column < clip->column_end; ++column) {
            const int32_t place = (row * layer->dilation_h * layer->in_w) + (column * layer->dilation_w);
            const int8_t *x = &input[place * layer->in_c];
            const int8_t *w = &weights[((row * layer->kernel_w) + column) * count];
            for (int32_t i = 0; i < count; ++i) {
                sum += (x[i] + layer->in_offset) * w[i];
            }
        }
    }
    return sum;
}

void grouped(const grouped_t *part, const int8_t *input, int8_t *output)
{
    const convolution_t *const layer = &part->layer;
    const finish_t rule = finish_of(layer);
    const int32_t count = layer->in_c / part->groups, made = layer->out_c / part->groups;
    const int32_t size = (int32_t)layer->kernel_h * layer->kernel_w * count;
    int8_t *out = output;
    clip_t clip;
    for (int32_t y = 0; y < layer->out_h; ++y) {
        const int32_t top = (y * layer->stride_h) - layer->pad_top;
        clip.row = first_tap(top, layer->dilation_h);
        clip.row_end = end_tap(top, layer->dilation_h, layer->kernel_h, layer->in_h);
        for (int32_t x = 0; x < layer->out_w; ++x) {
            const int32_t left = (x * layer->stride_w) - layer->pad_left;
            const int32_t origin = ((top * layer->in_w) + left) * layer->in_c;
            clip.column = first_tap(left, layer->dilation_w);
            clip.column_end = end_tap(left, layer->dilation_w, layer->kernel_w, layer->in_w);
            for (int32_t channel = 0; channel < layer->out_c; ++channel) {
                const int32_t from = (channel / made) * count;
                const int32_t sum =
                    grouped_sum(layer, &clip, &input[origin + from], &layer->weights[channel * size], count);
                out[channel] = finish(&rule, channel, layer->bias[channel] + sum);
            }
            out = &out[layer->out_c];
        }
    }
}

/* One output channel of a transposed convolution: every `stride`-th tap meets a value. `top` and `left` are the output's
 * place on the whole output, of which padding cuts off the border. */
static int32_t transposed_sum(const convolution_t *layer, const int8_t *input, const int8_t *weights, int32_t top,
                              int32_t left)
{
    int32_t sum = 0;
    int32_t row = top / layer->stride_h;
    for (int32_t tap_y = top % layer->stride_h; (tap_y < layer->kernel_h) && (row >= 0); tap_y += layer->stride_h) {
        int32_t column = left / layer->stride_w;
        for (int32_t tap_x = left % layer->stride_w; (tap_x < layer->kernel_w) && (column >= 0);
             tap_x += layer->stride_w) {
            if ((row < layer->in_h) && (column < layer->in_w)) {
                const int8_t *x = &input[((row * layer->in_w) + column) * layer->in_c];
                const int8_t *w = &weights[((tap_y * layer->kernel_w) + tap_x) * layer->in_c];
                for (int32_t i = 0; i < layer->in_c; ++i) {
                    sum += (x[i] + layer->in_offset) * w[i];
                }
            }
            --column;
        }
        --row;
    }
    return sum;
}

void transposed(const convolution_t *layer, const int8_t *input, int8_t *output)
{
    const finish_t rule = finish_of(layer);
    const int32_t size = (int32_t)layer->kernel_h * layer->kernel_w * layer->in_c;
    int8_t *out = output;
    for (int32_t y = 0; y < layer->out_h; ++y) {
        for (int32_t x = 0; x < layer->out_w; ++x) {
            for (int32_t channel = 0; channel < layer->out_c; ++channel) {
                const int32_t sum = transposed_sum(layer, input, &layer->weights[channel * size],
                                                   y + layer->pad_top, x + layer->pad_left);
                out[channel] = finish(&rule, channel, layer->bias[channel] + sum);
            }
            out = &out[layer->out_c];
        }
    }
}
