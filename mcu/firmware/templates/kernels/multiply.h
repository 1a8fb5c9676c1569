/* The inner loops of the convolution: windows of int8 values times the weights of two output channels, in the widest
 * form the core offers.
 *
 * multiply_2x2: two windows, `next` values apart, so that every load and every widening of an operand serves two
 * products. sum[0], sum[1]: first window; sum[2], sum[3]: second window. multiply_1x2: one window.
 * `weights` belong to the first channel, those of the second lie `other` further on.
 *
 * Neither is inlined: the loops need every register there is.
 */
#ifndef MULTIPLY_H
#define MULTIPLY_H

#include "window.h"

#define OUTLINE static __attribute__((noinline))

#if defined(__ARM_FEATURE_MVE)
#include "multiply_mve.h"
#else

#if defined(__ARM_FEATURE_DSP)
#include "dsp.h"

#define BLOCK 4
#endif

OUTLINE void multiply_2x2(const window_t *window, int32_t next, const int8_t *weights, int32_t other, int32_t sum[4])
{
    int32_t s00 = sum[0], s01 = sum[1], s10 = sum[2], s11 = sum[3];
    const int8_t *band_x = window->input, *band_w = &weights[window->weight];
    for (int32_t band = window->bands; band > 0; --band) {
        const int8_t *run_x = band_x, *run_w = band_w;
        for (int32_t run = window->runs; run > 0; --run) {
            const int8_t *x = run_x, *w = run_w;
            const int8_t *const end = &x[window->count];
#if defined(__ARM_FEATURE_DSP)
            const uint32_t offsets = pair(window->offset);
            const int8_t *const blocks_end = &x[window->count & ~(BLOCK - 1)];
            while (x != blocks_end) {
                const uint32_t a1 = load_four(&x[next]), a0 = load_four(x);
                const uint32_t a0_even = widen_even_add(offsets, a0), a1_even = widen_even_add(offsets, a1);
                const uint32_t a0_odd = widen_odd_add(offsets, a0), a1_odd = widen_odd_add(offsets, a1);
                const uint32_t b1 = load_four(&w[other]), b0 = load_four(w);
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
                x += BLOCK;
                w += BLOCK;
            }
#endif
            while (x != end) {
                const int32_t a0 = *x + window->offset, a1 = x[next] + window->offset;
                const int32_t b0 = *w, b1 = w[other];
                s00 += a0 * b0;
                s01 += a0 * b1;
                s10 += a1 * b0;
                s11 += a1 * b1;
                ++x;
                ++w;
            }
            run_x += window->input_run;
            run_w += window->weight_run;
        }
        band_x += window->input_band;
        band_w += window->weight_band;
    }
    sum[0] = s00;
    sum[1] = s01;
    sum[2] = s10;
    sum[3] = s11;
}

OUTLINE void multiply_1x2(const window_t *window, const int8_t *weights, int32_t other, int32_t sum[2])
{
    int32_t s0 = sum[0], s1 = sum[1];
    const int8_t *band_x = window->input, *band_w = &weights[window->weight];
    for (int32_t band = window->bands; band > 0; --band) {
        const int8_t *run_x = band_x, *run_w = band_w;
        for (int32_t run = window->runs; run > 0; --run) {
            const int8_t *x = run_x, *w = run_w;
            const int8_t *const end = &x[window->count];
#if defined(__ARM_FEATURE_DSP)
            const uint32_t offsets = pair(window->offset);
            const int8_t *const blocks_end = &x[window->count & ~(BLOCK - 1)];
            while (x != blocks_end) {
                const uint32_t a = load_four(x), b1 = load_four(&w[other]), b0 = load_four(w);
                const uint32_t a_even = widen_even_add(offsets, a), a_odd = widen_odd_add(offsets, a);
                s0 = multiply_pairs(a_even, widen_even(b0), s0);
                s1 = multiply_pairs(a_even, widen_even(b1), s1);
                s0 = multiply_pairs(a_odd, widen_odd(b0), s0);
                s1 = multiply_pairs(a_odd, widen_odd(b1), s1);
                x += BLOCK;
                w += BLOCK;
            }
#endif
            while (x != end) {
                const int32_t a = *x + window->offset;
                s0 += a * *w;
                s1 += a * w[other];
                ++x;
                ++w;
            }
            run_x += window->input_run;
            run_w += window->weight_run;
        }
        band_x += window->input_band;
        band_w += window->weight_band;
    }
    sum[0] = s0;
    sum[1] = s1;
}

#endif
#endif
