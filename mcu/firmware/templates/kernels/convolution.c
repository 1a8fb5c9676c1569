/* Convolution without im2col: a window's rows are runs of contiguous int8 values in the input itself. */
#include "kernels.h"

#include "products.h"

OUTLINE void one_position(const convolution_t *layer, const window_t *window, int8_t *output)
{
    products_single(layer, window, (index_t)layer->kernel_h * layer->kernel_w * layer->in_c, output);
}

#if POSITIONS > 1
OUTLINE void several_positions(const convolution_t *layer, const window_t *window, index_t next, int8_t *output,
                               index_t output_next)
{
    const index_t size = (index_t)layer->kernel_h * layer->kernel_w * layer->in_c;
    products_several(layer, window, size, next, output, output_next);
}
#endif

/* Several positions at once in a column, where their windows are clipped alike; else in a row; else one. */
void convolution(const FLASH void *description, const int8_t *input, int8_t *output)
{
    const convolution_t *const layer = description;
    const index_t out_row = (index_t)layer->out_w * layer->out_c;
    index_t rows, columns;
    clip_t clip;
    for (index_t y = 0; y < layer->out_h; y += rows) {
        const index_t top = (y * layer->stride_h) - layer->pad_top;
        clip.row = first_tap(top, layer->dilation_h);
        clip.row_end = end_tap(top, layer->dilation_h, layer->kernel_h, layer->in_h);
        rows = rows_inside(layer, y, top, POSITIONS) ? POSITIONS : 1;
        int8_t *out = &output[y * out_row];
        for (index_t x = 0; x < layer->out_w; x += columns) {
            const index_t left = (x * layer->stride_w) - layer->pad_left;
            clip.column = first_tap(left, layer->dilation_w);
            clip.column_end = end_tap(left, layer->dilation_w, layer->kernel_w, layer->in_w);
            const window_t window = window_of(layer, &clip, input, top, left, layer->dilation_w > 1);
            columns = 1;
#if POSITIONS > 1
            if (rows > 1) {
                several_positions(layer, &window, (index_t)layer->stride_h * layer->in_w * layer->in_c, out, out_row);
            } else if (columns_inside(layer, x, left, POSITIONS)) {
                several_positions(layer, &window, (index_t)layer->stride_w * layer->in_c, out, layer->out_c);
                columns = POSITIONS;
            } else
#endif
            {
                one_position(layer, &window, out);
            }
            out = &out[columns * layer->out_c];
        }
    }
}

/* One output channel of a grouped convolution at one position. */
static int32_t grouped_sum(const convolution_t *layer, const clip_t *clip, const int8_t *input, const FLASH int8_t *weights,
                           index_t count)
{
    int32_t sum = 0;
    for (index_t row = clip->row; row < clip->row_end; ++row) {
        for (index_t column = clip->column; column < clip->column_end; ++column) {
            const index_t place = (row * layer->dilation_h * layer->in_w) + (column * layer->dilation_w);
            const int8_t *x = &input[place * layer->in_c];
            const FLASH int8_t *w = &weights[((row * layer->kernel_w) + column) * count];
            for (index_t i = 0; i < count; ++i) {
                sum += (x[i] + layer->in_offset) * w[i];
            }
        }
    }
    return sum;
}

void grouped(const FLASH void *description, const int8_t *input, int8_t *output)
{
    const grouped_t *const part = description;
    const convolution_t *const layer = &part->layer;
    const finish_t rule = finish_of(layer);
    const index_t count = layer->in_c / part->groups, made = layer->out_c / part->groups;
    const index_t size = (index_t)layer->kernel_h * layer->kernel_w * count;
    int8_t *out = output;
    clip_t clip;
    for (index_t y = 0; y < layer->out_h; ++y) {
        const index_t top = (y * layer->stride_h) - layer->pad_top;
        clip.row = first_tap(top, layer->dilation_h);
        clip.row_end = end_tap(top, layer->dilation_h, layer->kernel_h, layer->in_h);
        for (index_t x = 0; x < layer->out_w; ++x) {
            const index_t left = (x * layer->stride_w) - layer->pad_left;
            const index_t origin = ((top * layer->in_w) + left) * layer->in_c;
            clip.column = first_tap(left, layer->dilation_w);
            clip.column_end = end_tap(left, layer->dilation_w, layer->kernel_w, layer->in_w);
            for (index_t channel = 0; channel < layer->out_c; ++channel) {
                const index_t from = (channel / made) * count;
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
static int32_t transposed_sum(const convolution_t *layer, const int8_t *input, const FLASH int8_t *weights, index_t top,
                              index_t left)
{
    int32_t sum = 0;
    index_t row = top / layer->stride_h;
    for (index_t tap_y = top % layer->stride_h; (tap_y < layer->kernel_h) && (row >= 0); tap_y += layer->stride_h) {
        index_t column = left / layer->stride_w;
        for (index_t tap_x = left % layer->stride_w; (tap_x < layer->kernel_w) && (column >= 0);
             tap_x += layer->stride_w) {
            if ((row < layer->in_h) && (column < layer->in_w)) {
                const int8_t *x = &input[((row * layer->in_w) + column) * layer->in_c];
                const FLASH int8_t *w = &weights[((tap_y * layer->kernel_w) + tap_x) * layer->in_c];
                for (index_t i = 0; i < layer->in_c; ++i) {
                    sum += (x[i] + layer->in_offset) * w[i];
                }
            }
            --column;
        }
        --row;
    }
    return sum;
}

void transposed(const FLASH void *description, const int8_t *input, int8_t *output)
{
    const convolution_t *const layer = description;
    const finish_t rule = finish_of(layer);
    const index_t size = (index_t)layer->kernel_h * layer->kernel_w * layer->in_c;
    int8_t *out = output;
    for (index_t y = 0; y < layer->out_h; ++y) {
        for (index_t x = 0; x < layer->out_w; ++x) {
            for (index_t channel = 0; channel < layer->out_c; ++channel) {
                const int32_t sum = transposed_sum(layer, input, &layer->weights[channel * size],
                                                   y + layer->pad_top, x + layer->pad_left);
                out[channel] = finish(&rule, channel, layer->bias[channel] + sum);
            }
            out = &out[layer->out_c];
        }
    }
}
