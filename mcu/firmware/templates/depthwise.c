/* Depthwise convolution, several neighbouring channels at a time. */
#include "kernels.h"

#include "window.h"

#if defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>

#define LANES 8

static inline int32_t block_start(int32_t channel, int32_t channels)
{
    (void)channels;
    return channel;
}

/* Sums of up to eight channels: halfword lanes, even and odd lanes multiplied into words. */
static inline void accumulate(const convolution_t *layer, const clip_t *clip, const int8_t *input, int32_t origin,
                              int32_t channel, int32_t sum[LANES])
{
    const int32_t channels = layer->in_c;
    const mve_pred16_t lanes = vctp16q((uint32_t)(channels - channel));
    int32x4_t even = vdupq_n_s32(0), odd = vdupq_n_s32(0);
    for (int32_t row = clip->row; row < clip->row_end; ++row) {
        int32_t at = (row * layer->dilation_h * layer->in_w) + (clip->column * layer->dilation_w);
        int32_t tap = (row * layer->kernel_w) + clip->column;
        for (int32_t column = clip->column; column < clip->column_end; ++column) {
            const int16x8_t x = vldrbq_z_s16(&input[origin + (at * channels) + channel], lanes);
            const int16x8_t w = vldrbq_z_s16(&layer->weights[(tap * channels) + channel], lanes);
            const int16x8_t centred = vaddq_n_s16(x, layer->in_offset);
            even = vaddq_s32(even, vmullbq_int_s16(centred, w));
            odd = vaddq_s32(odd, vmulltq_int_s16(centred, w));
            at += layer->dilation_w;
            ++tap;
        }
    }
    const int32x4x2_t both = {{even, odd}};
    vst2q_s32(sum, both);
}

#else

#define LANES 4

#if defined(__ARM_FEATURE_DSP)
#include "dsp.h"

static inline void multiply_lanes(const int8_t *x, const int8_t *w, int32_t offset, int32_t sum[LANES])
{
    const uint32_t a = load_four(x), b = load_four(w);
    const uint32_t a_even = widen_even_add(pair(offset), a), a_odd = widen_odd_add(pair(offset), a);
    const uint32_t b_even = widen_even(b), b_odd = widen_odd(b);
    sum[0] = multiply_low(a_even, b_even, sum[0]);
    sum[1] = multiply_low(a_odd, b_odd, sum[1]);
    sum[2] = multiply_high(a_even, b_even, sum[2]);
    sum[3] = multiply_high(a_odd, b_odd, sum[3]);
}

#else

static inline void multiply_lanes(const int8_t *x, const int8_t *w, int32_t offset, int32_t sum[LANES])
{
    sum[0] += (x[0] + offset) * w[0];
    sum[1] += (x[1] + offset) * w[1];
    sum[2] += (x[2] + offset) * w[2];
    sum[3] += (x[3] + offset) * w[3];
}

#endif

/* The last block starts early enough to be whole: a few channels are computed twice rather than one by one. */
static inline int32_t block_start(int32_t channel, int32_t channels)
{
    return minimum(channel, channels - LANES);
}

static inline void accumulate(const convolution_t *layer, const clip_t *clip, const int8_t *input, int32_t origin,
                              int32_t channel, int32_t sum[LANES])
{
    const int32_t channels = layer->in_c;
    const int32_t step = layer->dilation_w * channels;
    const int32_t offset = layer->in_offset;
    int32_t s[LANES] = {0, 0, 0, 0};
    for (int32_t row = clip->row; row < clip->row_end; ++row) {
        const int32_t at = (row * layer->dilation_h * layer->in_w) + (clip->column * layer->dilation_w);
        const int8_t *x = &input[origin + (at * channels) + channel];
        const int8_t *w = &layer->weights[(((row * layer->kernel_w) + clip->column) * channels) + channel];
        for (int32_t column = clip->column; column < clip->column_end; ++column) {
            multiply_lanes(x, w, offset, s);
            x += step;
            w += channels;
        }
    }
    for (int32_t lane = 0; lane < LANES; ++lane) {
        sum[lane] = s[lane];
    }
}

#endif

void depthwise(const convolution_t *layer, const int8_t *input, int8_t *output)
{
    const int32_t channels = layer->in_c;
    int8_t *out = output;
    clip_t clip;
    for (int32_t y = 0; y < layer->out_h; ++y) {
        const int32_t top = (y * layer->stride_h) - layer->pad_top;
        clip.row = first_tap(top, layer->dilation_h);
        clip.row_end = end_tap(top, layer->dilation_h, layer->kernel_h, layer->in_h);
        for (int32_t x = 0; x < layer->out_w; ++x) {
            const int32_t left = (x * layer->stride_w) - layer->pad_left;
            const int32_t origin = ((top * layer->in_w) + left) * channels;
            clip.column = first_tap(left, layer->dilation_w);
            clip.column_end = end_tap(left, layer->dilation_w, layer->kernel_w, layer->in_w);
            for (int32_t channel = 0; channel < channels; channel += LANES) {
                const int32_t start = block_start(channel, channels);
                const int32_t end = minimum(start + LANES, channels);
                int32_t sum[LANES];
                accumulate(layer, &clip, input, origin, start, sum);
                for (int32_t c = start; c < end; ++c) {
                    out[c] = finish(layer, c, layer->bias[c] + sum[c - start]);
                }
            }
            out = &out[channels];
        }
    }
}

/* Any number of channels and any depth multiplier, one output at a time. */
void depthwise_multiplied(const convolution_t *layer, const int8_t *input, int8_t *output)
{
    const int32_t in_c = layer->in_c, out_c = layer->out_c;
    const int32_t multiplier = out_c / in_c;
    int8_t *out = output;
    clip_t clip;
    for (int32_t y = 0; y < layer->out_h; ++y) {
        const int32_t top = (y * layer->stride_h) - layer->pad_top;
        clip.row = first_tap(top, layer->dilation_h);
        clip.row_end = end_tap(top, layer->dilation_h, layer->kernel_h, layer->in_h);
        for (int32_t x = 0; x < layer->out_w; ++x) {
            const int32_t left = (x * layer->stride_w) - layer->pad_left;
            const int32_t origin = ((top * layer->in_w) + left) * in_c;
            clip.column = first_tap(left, layer->dilation_w);
            clip.column_end = end_tap(left, layer->dilation_w, layer->kernel_w, layer->in_w);
            for (int32_t channel = 0; channel < out_c; ++channel) {
                int32_t sum = layer->bias[channel];
                for (int32_t row = clip.row; row < clip.row_end; ++row) {
                    for (int32_t column = clip.column; column < clip.column_end; ++column) {
                        const int32_t at = (row * layer->dilation_h * layer->in_w) + (column * layer->dilation_w);
                        const int32_t value = input[origin + (at * in_c) + (channel / multiplier)];
                        const int32_t tap = (row * layer->kernel_w) + column;
                        sum += (value + layer->in_offset) * layer->weights[(tap * out_c) + channel];
                    }
                }
                out[channel] = finish(layer, channel, sum);
            }
            out = &out[out_c];
        }
    }
}
