/* Pooling, the mean over all positions, interpolation. */
#include "kernels.h"

#include "window.h"

void max_pool(const FLASH void *description, const int8_t *input, int8_t *output)
{
    const pool_t *const layer = description;
    const index_t channels = layer->channels;
    int8_t *out = output;
    clip_t clip;
    for (index_t y = 0; y < layer->out_h; ++y) {
        const index_t top = (y * layer->stride_h) - layer->pad_top;
        clip.row = first_tap(top, 1);
        clip.row_end = end_tap(top, 1, layer->kernel_h, layer->in_h);
        for (index_t x = 0; x < layer->out_w; ++x) {
            const index_t left = (x * layer->stride_w) - layer->pad_left;
            const index_t origin = ((top * layer->in_w) + left) * channels;
            clip.column = first_tap(left, 1);
            clip.column_end = end_tap(left, 1, layer->kernel_w, layer->in_w);
            for (index_t channel = 0; channel < channels; ++channel) {
                index_t largest = INT8_MIN;
                for (index_t row = clip.row; row < clip.row_end; ++row) {
                    const int8_t *from =
                        &input[origin + (((row * layer->in_w) + clip.column) * channels) + channel];
                    for (index_t column = clip.column; column < clip.column_end; ++column) {
                        largest = maximum(largest, *from);
                        from += channels;
                    }
                }
                out[channel] = (int8_t)clamp(largest, layer->out_min, layer->out_max);
            }
            out = &out[channels];
        }
    }
}

/* Quotient to the nearest, halves away from zero. */
static inline int32_t divide_rounding(int32_t sum, index_t count)
{
    const index_t half = count / 2;
    return (sum > 0) ? ((sum + half) / count) : ((sum - half) / count);
}

void average_pool(const FLASH void *description, const int8_t *input, int8_t *output)
{
    const pool_t *const layer = description;
    const index_t channels = layer->channels;
    int8_t *out = output;
    clip_t clip;
    for (index_t y = 0; y < layer->out_h; ++y) {
        const index_t top = (y * layer->stride_h) - layer->pad_top;
        clip.row = first_tap(top, 1);
        clip.row_end = end_tap(top, 1, layer->kernel_h, layer->in_h);
        for (index_t x = 0; x < layer->out_w; ++x) {
            const index_t left = (x * layer->stride_w) - layer->pad_left;
            const index_t origin = ((top * layer->in_w) + left) * channels;
            clip.column = first_tap(left, 1);
            clip.column_end = end_tap(left, 1, layer->kernel_w, layer->in_w);
            const index_t count = (clip.row_end - clip.row) * (clip.column_end - clip.column);
            for (index_t channel = 0; channel < channels; ++channel) {
                int32_t sum = 0;
                for (index_t row = clip.row; row < clip.row_end; ++row) {
                    const int8_t *from =
                        &input[origin + (((row * layer->in_w) + clip.column) * channels) + channel];
                    for (index_t column = clip.column; column < clip.column_end; ++column) {
                        sum += *from;
                        from += channels;
                    }
                }
                out[channel] = (int8_t)clamp(divide_rounding(sum, count), layer->out_min, layer->out_max);
            }
            out = &out[channels];
        }
    }
}

void mean(const FLASH void *description, const int8_t *input, int8_t *output)
{
    const mean_t *const layer = description;
    for (index_t channel = 0; channel < layer->channels; ++channel) {
        int32_t sum = (int32_t)layer->positions * layer->in_offset;
        for (index_t position = 0; position < layer->positions; ++position) {
            sum += input[(position * layer->channels) + channel];
        }
        const int32_t value = rescale(sum, layer->multiplier, layer->shift) + layer->out_offset;
        output[channel] = (int8_t)clamp(value, INT8_MIN, INT8_MAX);
    }
}

#define ONE ((int32_t)1 << 10) /* of a weight of an interpolation */

/* The two rows or columns that an output lies between, and the weight of the second. */
typedef struct {
    index_t low, high;
    int32_t weight;
} between_t;

static inline between_t between(index_t index, int32_t scale, int32_t start, index_t size)
{
    const int32_t at = (index * scale) + start;
    between_t found;
    found.low = maximum((index_t)(at / ONE), 0);
    found.high = minimum((index_t)((at + (ONE - 1)) / ONE), size - 1);
    found.weight = at - (found.low * ONE);
    return found;
}

void bilinear(const FLASH void *description, const int8_t *input, int8_t *output)
{
    const bilinear_t *const layer = description;
    const index_t channels = layer->channels;
    const int32_t half = (ONE * ONE) / 2;
    int8_t *out = output;
    for (index_t y = 0; y < layer->out_h; ++y) {
        const between_t row = between(y, layer->scale_h, layer->start_h, layer->in_h);
        for (index_t x = 0; x < layer->out_w; ++x) {
            const between_t column = between(x, layer->scale_w, layer->start_w, layer->in_w);
            const int8_t *const a = &input[((row.low * layer->in_w) + column.low) * channels];
            const int8_t *const b = &input[((row.high * layer->in_w) + column.low) * channels];
            const int8_t *const c = &input[((row.low * layer->in_w) + column.high) * channels];
            const int8_t *const d = &input[((row.high * layer->in_w) + column.high) * channels];
            const int32_t left = ONE - column.weight, top = ONE - row.weight;
            const int32_t of_a = top * left, of_b = row.weight * left;
            const int32_t of_c = top * column.weight, of_d = row.weight * column.weight;
            for (index_t i = 0; i < channels; ++i) {
                const int32_t sum = (a[i] * of_a) + (b[i] * of_b) + (c[i] * of_c) + (d[i] * of_d);
                out[i] = (int8_t)((sum + ((sum > 0) ? half : -half)) / (ONE * ONE));
            }
            out = &out[channels];
        }
    }
}
