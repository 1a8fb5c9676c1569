/* Depthwise convolution, several neighbouring channels at a time. */
#include "kernels.h"

#include "window.h"

#define OUTLINE static __attribute__((noinline))

#if defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>

#define LANES 8

/* Sums of up to eight channels: halfword lanes, even and odd ones multiplied into words. */
OUTLINE void multiply_lanes(const window_t *window, const int8_t *weights, int32_t channel, int32_t sum[LANES])
{
    const mve_pred16_t lanes = vctp16q((uint32_t)(window->count - channel));
    const int8_t *band_x = &window->input[channel], *band_w = &weights[window->weight + channel];
    int32x4_t even = vdupq_n_s32(0), odd = vdupq_n_s32(0);
    for (int32_t band = window->bands; band > 0; --band) {
        const int8_t *x = band_x, *w = band_w;
        for (int32_t run = window->runs; run > 0; --run) {
            const int16x8_t a = vaddq_n_s16(vldrbq_z_s16(x, lanes), (int16_t)window->offset);
            const int16x8_t b = vldrbq_z_s16(w, lanes);
            even = vaddq_s32(even, vmullbq_int_s16(a, b));
            odd = vaddq_s32(odd, vmulltq_int_s16(a, b));
            x += window->input_run;
            w += window->weight_run;
        }
        band_x += window->input_band;
        band_w += window->weight_band;
    }
    const int32x4x2_t both = {{even, odd}};
    vst2q_s32(sum, both);
}

#else

#define LANES 4

#if defined(__ARM_FEATURE_DSP)
#include "dsp.h"
#endif

/* Sums of four channels. */
OUTLINE void multiply_lanes(const window_t *window, const int8_t *weights, int32_t channel, int32_t sum[LANES])
{
    const int8_t *band_x = &window->input[channel], *band_w = &weights[window->weight + channel];
    const int32_t input_run = window->input_run, weight_run = window->weight_run, offset = window->offset;
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (int32_t band = window->bands; band > 0; --band) {
        const int8_t *x = band_x, *w = band_w;
        for (int32_t run = window->runs; run > 0; --run) {
#if defined(__ARM_FEATURE_DSP)
            const uint32_t a = load_four(x), b = load_four(w);
            const uint32_t a_even = widen_even_add(pair(offset), a), a_odd = widen_odd_add(pair(offset), a);
            const uint32_t b_even = widen_even(b), b_odd = widen_odd(b);
            s0 = multiply_low(a_even, b_even, s0);
            s1 = multiply_low(a_odd, b_odd, s1);
            s2 = multiply_high(a_even, b_even, s2);
            s3 = multiply_high(a_odd, b_odd, s3);
#else
            s0 += (x[0] + offset) * w[0];
            s1 += (x[1] + offset) * w[1];
            s2 += (x[2] + offset) * w[2];
            s3 += (x[3] + offset) * w[3];
#endif
            x += input_run;
            w += weight_run;
        }
        band_x += window->input_band;
        band_w += window->weight_band;
    }
    sum[0] = s0;
    sum[1] = s1;
    sum[2] = s2;
    sum[3] = s3;
}

#endif

/* All channels at one position. Four lanes want whole blocks: there the last starts early enough to be one, so that a
 * few channels are computed twice rather than one by one; eight lanes are predicated instead. */
static void all_channels(const convolution_t *layer, const window_t *window, int8_t *output)
{
    const int32_t channels = layer->out_c;
    const finish_t rule = finish_of(layer);
    for (int32_t channel = 0; channel < channels; channel += LANES) {
        const int32_t start = (LANES == 4) ? minimum(channel, channels - LANES) : channel;
        const int32_t count = (LANES == 4) ? LANES : minimum(LANES, channels - start);
        int32_t sum[LANES];
        multiply_lanes(window, layer->weights, start, sum);
        const int32_t *const bias = &layer->bias[start];
        int8_t *const out = &output[start];
        for (int32_t lane = 0; lane < count; ++lane) {
            out[lane] = finish(&rule, start + lane, bias[lane] + sum[lane]);
        }
    }
}

void depthwise(const convolution_t *layer, const int8_t *input, int8_t *output)
{
    int8_t *out = output;
    clip_t clip;
    for (int32_t y = 0; y < layer->out_h; ++y) {
        const int32_t top = (y * layer->stride_h) - layer->pad_top;
        clip.row = first_tap(top, layer->dilation_h);
        clip.row_end = end_tap(top, layer->dilation_h, layer->kernel_h, layer->in_h);
        for (int32_t x = 0; x < layer->out_w; ++x) {
            const int32_t left = (x * layer->stride_w) - layer->pad_left;
            clip.column = first_tap(left, layer->dilation_w);
            clip.column_end = end_tap(left, layer->dilation_w, layer->kernel_w, layer->in_w);
            const window_t window = window_of(layer, &clip, input, top, left, true);
            all_channels(layer, &window, out);
            out = &out[layer->out_c];
        }
    }
}

/* Any number of channels and any depth multiplier, one output at a time. */
void depthwise_multiplied(const convolution_t *layer, const int8_t *input, int8_t *output)
{
    const int32_t in_c = layer->in_c, out_c = layer->out_c;
    const int32_t multiplier = out_c / in_c;
    const finish_t rule = finish_of(layer);
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
                out[channel] = finish(&rule, channel, sum);
            }
            out = &out[out_c];
        }
    }
}
