/* Pooling and the mean over all positions. */
#include "kernels.h"

#include "window.h"

void max_pool(const pool_t *layer, const int8_t *input, int8_t *output)
{
    const int32_t channels = layer->channels;
    int8_t *out = output;
    clip_t clip;
    for (int32_t y = 0; y < layer->out_h; ++y) {
        const int32_t top = (y * layer->stride_h) - layer->pad_top;
        clip.row = first_tap(top, 1);
        clip.row_end = end_tap(top, 1, layer->kernel_h, layer->in_h);
        for (int32_t x = 0; x < layer->out_w; ++x) {
            const int32_t left = (x * layer->stride_w) - layer->pad_left;
            const int32_t origin = ((top * layer->in_w) + left) * channels;
            clip.column = first_tap(left, 1);
            clip.column_end = end_tap(left, 1, layer->kernel_w, layer->in_w);
            for (int32_t channel = 0; channel < channels; ++channel) {
                int32_t largest = INT8_MIN;
                for (int32_t row = clip.row; row < clip.row_end; ++row) {
                    const int8_t *from =
                        &input[origin + (((row * layer->in_w) + clip.column) * channels) + channel];
                    for (int32_t column = clip.column; column < clip.column_end; ++column) {
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
static inline int32_t divide_rounding(int32_t sum, int32_t count)
{
    const int32_t half = count / 2;
    return (sum > 0) ? ((sum + half) / count) : ((sum - half) / count);
}

void average_pool(const pool_t *layer, const int8_t *input, int8_t *output)
{
    const int32_t channels = layer->channels;
    int8_t *out = output;
    clip_t clip;
    for (int32_t y = 0; y < layer->out_h; ++y) {
        const int32_t top = (y * layer->stride_h) - layer->pad_top;
        clip.row = first_tap(top, 1);
        clip.row_end = end_tap(top, 1, layer->kernel_h, layer->in_h);
        for (int32_t x = 0; x < layer->out_w; ++x) {
            const int32_t left = (x * layer->stride_w) - layer->pad_left;
            const int32_t origin = ((top * layer->in_w) + left) * channels;
            clip.column = first_tap(left, 1);
            clip.column_end = end_tap(left, 1, layer->kernel_w, layer->in_w);
            const int32_t count = (clip.row_end - clip.row) * (clip.column_end - clip.column);
            for (int32_t channel = 0; channel < channels; ++channel) {
                int32_t sum = 0;
                for (int32_t row = clip.row; row < clip.row_end; ++row) {
                    const int8_t *from =
                        &input[origin + (((row * layer->in_w) + clip.column) * channels) + channel];
                    for (int32_t column = clip.column; column < clip.column_end; ++column) {
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

void mean(const mean_t *layer, const int8_t *input, int8_t *output)
{
    for (int32_t channel = 0; channel < layer->channels; ++channel) {
        int32_t sum = layer->positions * layer->in_offset;
        for (int32_t position = 0; position < layer->positions; ++position) {
            sum += input[(position * layer->channels) + channel];
        }
        const int32_t value = rescale(sum, layer->multiplier, layer->shift) + layer->out_offset;
        output[channel] = (int8_t)clamp(value, INT8_MIN, INT8_MAX);
    }
}
