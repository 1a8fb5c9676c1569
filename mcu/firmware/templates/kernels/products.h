/* The inner loops of convolutions and dense layers: windows of int8 values times the weights of all output channels,
 * in the widest form the core offers, at one position or at several, `next` values apart, whose windows are clipped
 * alike and whose outputs are `output_next` apart. Kernels make functions of them that are not inlined: the loops need
 * every register there is.
 */
#ifndef PRODUCTS_H
#define PRODUCTS_H

#include "finish.h"
#include "window.h"

#if defined(__ARM_FEATURE_MVE)
#define POSITIONS 4
#include "products_mve.h"
#elif defined(__AVR__)
#define POSITIONS 1
#include "products_avr.h"
#else

#if defined(__ARM_ARCH_6M__)
#define POSITIONS 1 /* eight registers do not hold two windows */
#else
#define POSITIONS 2
#endif

/* Of two output channels at a position, and at the next. */
typedef struct {
    int32_t here[2], there[2];
} sums_t;

/* One run of a window; positions is a constant, 1 or 2. Every load and every widening of an operand serves two
 * products, or four. */
INLINE void add_run(sums_t *sum, int32_t positions, const int8_t *x, int32_t next, const int8_t *w, int32_t other,
                    int32_t count, int32_t offset)
{
    const int8_t *const end = &x[count];
#if defined(__ARM_FEATURE_DSP)
    const uint32_t offsets = pair(offset);
    const int8_t *const blocks_end = &x[count & ~3];
    while (x != blocks_end) {
        const uint32_t a1 = (positions == 2) ? load_four(&x[next]) : 0, a0 = load_four(x);
        const uint32_t b1 = load_four(&w[other]), b0 = load_four(w);
        const uint32_t a0_even = widen_even_add(offsets, a0), a0_odd = widen_odd_add(offsets, a0);
        const uint32_t b0_even = widen_even(b0), b0_odd = widen_odd(b0);
        const uint32_t b1_even = widen_even(b1), b1_odd = widen_odd(b1);
        sum->here[0] = multiply_pairs(a0_even, b0_even, sum->here[0]);
        sum->here[0] = multiply_pairs(a0_odd, b0_odd, sum->here[0]);
        sum->here[1] = multiply_pairs(a0_even, b1_even, sum->here[1]);
        sum->here[1] = multiply_pairs(a0_odd, b1_odd, sum->here[1]);
        if (positions == 2) {
            const uint32_t a1_even = widen_even_add(offsets, a1), a1_odd = widen_odd_add(offsets, a1);
            sum->there[0] = multiply_pairs(a1_even, b0_even, sum->there[0]);
            sum->there[0] = multiply_pairs(a1_odd, b0_odd, sum->there[0]);
            sum->there[1] = multiply_pairs(a1_even, b1_even, sum->there[1]);
            sum->there[1] = multiply_pairs(a1_odd, b1_odd, sum->there[1]);
        }
        x += 4;
        w += 4;
    }
#endif
    while (x != end) {
        const int32_t a0 = *x + offset, b0 = *w, b1 = w[other];
        sum->here[0] += a0 * b0;
        sum->here[1] += a0 * b1;
        if (positions == 2) {
            const int32_t a1 = x[next] + offset;
            sum->there[0] += a1 * b0;
            sum->there[1] += a1 * b1;
        }
        ++x;
        ++w;
    }
}

/* All output channels, two at a time; an odd last one is computed beside itself, and finished once. A channel has `size`
 * weights. */
INLINE void products_of(const convolution_t *layer, const window_t *window, int32_t size, int32_t positions,
                        int32_t next, int8_t *output, int32_t output_next)
{
    const finish_t rule = finish_of(layer);
    const int32_t channels = layer->out_c;
    const int8_t *weights = &layer->weights[window->weight];
    for (int32_t channel = 0; channel < channels; channel += 2) {
        const int32_t second = minimum(channel + 1, channels - 1);
        const int32_t other = (second - channel) * size;
        const int32_t bias = layer->bias[channel], bias_second = layer->bias[second];
        sums_t sum = {{bias, bias_second}, {bias, bias_second}};
        const int8_t *x = window->input, *w = weights;
        for (int32_t band = window->bands; band > 0; --band) {
            for (int32_t run = window->runs; run > 0; --run) {
                add_run(&sum, positions, x, next, w, other, window->count, window->offset);
                x += window->input_run;
                w += window->weight_run;
            }
            x += window->input_band;
            w += window->weight_band;
        }
        if (positions == 2) {
            int8_t *const there = &output[output_next];
            finish_both(&rule, channel, sum.here[0], sum.there[0], &output[channel], &there[channel]);
            if (second > channel) {
                finish_both(&rule, second, sum.here[1], sum.there[1], &output[second], &there[second]);
            }
        } else {
            output[channel] = finish(&rule, channel, sum.here[0]);
            output[second] = finish(&rule, second, sum.here[1]);
        }
        weights = &weights[2 * size];
    }
}

INLINE void products_single(const convolution_t *layer, const window_t *window, int32_t size, int8_t *output)
{
    products_of(layer, window, size, 1, 0, output, 0);
}

INLINE void products_several(const convolution_t *layer, const window_t *window, int32_t size, int32_t next,
                             int8_t *output, int32_t output_next)
{
    products_of(layer, window, size, POSITIONS, next, output, output_next);
}

#endif

/* The window that is one run of `size` values, whose offset is in the bias. */
static inline window_t whole_run(const int8_t *input, index_t size)
{
    const window_t window = {input, 0, 1, 1, size, 0, 0, 0, 0, 0};
    return window;
}

#endif
