/* The inner loops of the convolution: windows of int8 values times the weights of all output channels, in the widest
 * form the core offers, at one position or at two, `next` values apart, whose windows are clipped alike.
 *
 * Two output channels at a time, so that every load and every widening of an operand serves two products, or four. An
 * odd last channel is computed beside itself. Neither function is inlined: the loops need every register there is.
 */
#ifndef MULTIPLY_H
#define MULTIPLY_H

#include "finish.h"
#include "window.h"

#define OUTLINE static __attribute__((noinline))

#if defined(__ARM_FEATURE_MVE)
#include "multiply_mve.h"
#else

#define BLOCK 4

OUTLINE void two_positions(const convolution_t *layer, const window_t *window, int32_t next, int8_t *output)
{
    const finish_t rule = finish_of(layer);
    const int32_t channels = layer->out_c;
    const int32_t size = (int32_t)layer->kernel_h * layer->kernel_w * layer->in_c;
    const int8_t *weights = &layer->weights[window->weight];
    for (int32_t channel = 0; channel < channels; channel += 2) {
        const int32_t second = minimum(channel + 1, channels - 1);
        const int32_t other = (second - channel) * size;
        int32_t s00 = layer->bias[channel], s10 = s00, s01 = layer->bias[second], s11 = s01;
        const int8_t *run_x = window->input, *run_w = weights;
        for (int32_t band = window->bands; band > 0; --band) {
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
            run_x += window->input_band;
            run_w += window->weight_band;
        }
        finish_both(&rule, channel, s00, s10, &output[channel], &output[channels + channel]);
        finish_both(&rule, second, s01, s11, &output[second], &output[channels + second]);
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
        int32_t s0 = layer->bias[channel], s1 = layer->bias[second];
        const int8_t *run_x = window->input, *run_w = weights;
        for (int32_t band = window->bands; band > 0; --band) {
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
            run_x += window->input_band;
            run_w += window->weight_band;
        }
        output[channel] = finish(&rule, channel, s0);
        output[second] = finish(&rule, second, s1);
        weights = &weights[2 * size];
    }
}

#endif
#endif
