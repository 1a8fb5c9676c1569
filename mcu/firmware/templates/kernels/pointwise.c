/* 1x1 convolutions and dense layers: the values of a position are one run, and no window is clipped. Their bias holds
 * the input's offset. */
#include "kernels.h"

#include "finish.h"

#define OUTLINE static __attribute__((noinline))

#if defined(__ARM_FEATURE_MVE)

#include "pointwise_mve.h"

#define POINTWISE_PAIRS 0

#else

#define POINTWISE_PAIRS 1

/* All output channels at two positions, `next` values apart. An odd last channel is computed beside itself. */
OUTLINE void pointwise_pair(const convolution_t *layer, const int8_t *input, int32_t next, int8_t *output)
{
    const finish_t rule = finish_of(layer);
    const int32_t size = layer->in_c, channels = layer->out_c;
    int8_t *const output_next = &output[channels];
    const int8_t *weights = layer->weights;
    for (int32_t channel = 0; channel < channels; channel += 2) {
        const int32_t second = minimum(channel + 1, channels - 1);
        const int32_t other = (second - channel) * size;
        const int32_t bias = layer->bias[channel], bias_second = layer->bias[second];
        int32_t s00 = bias, s10 = bias, s01 = bias_second, s11 = bias_second;
        const int8_t *x = input, *w = weights;
        const int8_t *const end = &x[size];
#if defined(__ARM_FEATURE_DSP)
        const int8_t *const blocks_end = &x[size & ~3];
        while (x != blocks_end) {
            const uint32_t a1 = load_four(&x[next]), a0 = load_four(x);
            const uint32_t b1 = load_four(&w[other]), b0 = load_four(w);
            const uint32_t a0_even = widen_even(a0), a1_even = widen_even(a1);
            const uint32_t a0_odd = widen_odd(a0), a1_odd = widen_odd(a1);
            const uint32_t b0_even = widen_even(b0), b0_odd = widen_odd(b0);
            s00 = multiply_pairs(a0_even, b0_even, s00);
            s10 = multiply_pairs(a1_even, b0_even, s10);
            s00 = multiply_pairs(a0_odd, b0_odd, s00);
            s10 = multiply_pairs(a1_odd, b0_odd, s10);
            const uint32_t b1_even = widen_even(b1), b1_odd = widen_odd(b1);
            s01 = multiply_pairs(a0_even, b1_even, s01);
            s11 = multiply_pairs(a1_even, b1_even, s11);
            s01 = multiply_pairs(a0_odd, b1_odd, s01);
            s11 = multiply_pairs(a1_odd, b1_odd, s11);
            x += 4;
            w += 4;
        }
#endif
        while (x != end) {
            const int32_t a0 = *x, a1 = x[next], b0 = *w, b1 = w[other];
            s00 += a0 * b0;
            s10 += a1 * b0;
            s01 += a0 * b1;
            s11 += a1 * b1;
            ++x;
            ++w;
        }
        finish_both(&rule, channel, s00, s10, &output[channel], &output_next[channel]);
        finish_both(&rule, second, s01, s11, &output[second], &output_next[second]);
        weights = &weights[2 * size];
    }
}

/* All output channels at one position. */
OUTLINE void pointwise_single(const convolution_t *layer, const int8_t *input, int8_t *output)
{
    const finish_t rule = finish_of(layer);
    const int32_t size = layer->in_c, channels = layer->out_c;
    const int8_t *weights = layer->weights;
    for (int32_t channel = 0; channel < channels; channel += 2) {
        const int32_t second = minimum(channel + 1, channels - 1);
        const int32_t other = (second - channel) * size;
        int32_t s0 = layer->bias[channel], s1 = layer->bias[second];
        const int8_t *x = input, *w = weights;
        const int8_t *const end = &x[size];
#if defined(__ARM_FEATURE_DSP)
        const int8_t *const blocks_end = &x[size & ~3];
        while (x != blocks_end) {
            const uint32_t a = load_four(x), b1 = load_four(&w[other]), b0 = load_four(w);
            const uint32_t a_even = widen_even(a), a_odd = widen_odd(a);
            s0 = multiply_pairs(a_even, widen_even(b0), s0);
            s1 = multiply_pairs(a_even, widen_even(b1), s1);
            s0 = multiply_pairs(a_odd, widen_odd(b0), s0);
            s1 = multiply_pairs(a_odd, widen_odd(b1), s1);
            x += 4;
            w += 4;
        }
#endif
        while (x != end) {
            s0 += *x * *w;
            s1 += *x * w[other];
            ++x;
            ++w;
        }
        output[channel] = finish(&rule, channel, s0);
        output[second] = finish(&rule, second, s1);
        weights = &weights[2 * size];
    }
}

#endif

void pointwise(const convolution_t *layer, const int8_t *input, int8_t *output)
{
    const int32_t step = (int32_t)layer->stride_w * layer->in_c;
    const int8_t *row = input;
    int8_t *out = output;
    for (int32_t y = 0; y < layer->out_h; ++y) {
        const int8_t *x = row;
        int32_t left = layer->out_w;
#if POINTWISE_PAIRS
        for (; left > 1; left -= 2) {
            pointwise_pair(layer, x, step, out);
            x = &x[2 * step];
            out = &out[2 * layer->out_c];
        }
#endif
        for (; left > 0; --left) {
            pointwise_single(layer, x, out);
            x = &x[step];
            out = &out[layer->out_c];
        }
        row = &row[(int32_t)layer->stride_h * layer->in_w * layer->in_c];
    }
}
