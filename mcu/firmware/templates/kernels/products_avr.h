/* The inner loops of convolutions for an AVR: one output channel at one position. */
#ifndef PRODUCTS_AVR_H
#define PRODUCTS_AVR_H

#define RAISED 128 /* makes an unsigned value of a code */
#define BLOCK 256  /* products whose sum fits 24 bits, and weights whose sum fits 16 */

/* Sums products of values and weights; one turn takes 15 to 24 cycles. */
#define ADD_PRODUCTS(load, multiply, tally_weight, ...)                                                          \
    __asm("1:\n\t" load multiply " %[weight], %[value]\n\t"                                                      \
          "add %A[sum], r0\n\t"                                                                                  \
          "adc %B[sum], r1\n\t"                                                                                  \
          "adc %C[sum], %[zero]\n\t"                                                                             \
          "sbrc r1, 7\n\t"                                                                                       \
          "dec %C[sum]\n\t" tally_weight "dec %[left]\n\t"                                                       \
          "brne 1b\n\t"                                                                                          \
          "clr __zero_reg__"                                                                                     \
          : [sum] "+r"(sum), [tally] "+r"(tally), [value] "=&a"(value), [weight] "=&a"(weight), [x] "+x"(run->x), \
            [w] "+z"(run->w), [left] "+r"(left)                                                                  \
          : __VA_ARGS__                                                                                          \
          : "r0", "memory")
#define ZERO [zero] "r"((uint8_t)0)
#define NEXT "ld %[value], %a[x]+\n\tlpm %[weight], %a[w]+\n\t"
#define STEP                                                                                    \
    "ld %[value], %a[x]\n\tlpm %[weight], %a[w]\n\tadd %A[x], %A[x_step]\n\tadc %B[x], %B[x_step]\n\t" \
    "add %A[w], %A[w_step]\n\tadc %B[w], %B[w_step]\n\t"
#define RAISE "subi %[value], 0x80\n\t"
#define TALLY "add %A[tally], %[weight]\n\tadc %B[tally], %[zero]\n\tsbrc %[weight], 7\n\tdec %B[tally]\n\t"

/* Where the next value and its weight lie. */
typedef struct {
    const int8_t *x;
    const FLASH int8_t *w;
} run_t;

/* 1 to BLOCK products of weights and of values with their offset, each `x_step` and `w_step` behind the last. */
INLINE int32_t add_block(run_t *run, uint8_t count, index_t x_step, index_t w_step, index_t offset)
{
    __int24 sum = 0;
    int16_t tally = 0;
    uint8_t left = count, value, weight;
    const bool one = __builtin_constant_p(x_step) && (x_step == 1);
    if (one && (offset == 0)) {
        ADD_PRODUCTS(NEXT, "muls", "", ZERO);
        return sum;
    }
    if (one && (offset == RAISED)) {
        ADD_PRODUCTS(NEXT RAISE, "mulsu", "", ZERO);
        return sum;
    }
    if (one) {
        ADD_PRODUCTS(NEXT RAISE, "mulsu", TALLY, ZERO);
    } else {
        ADD_PRODUCTS(STEP RAISE, "mulsu", TALLY, ZERO, [x_step] "r"(x_step), [w_step] "r"(w_step));
    }
    return sum + ((int32_t)(offset - RAISED) * tally);
}

/* One run of a window. */
INLINE int32_t add_run(int32_t bias, const int8_t *x, const FLASH int8_t *w, index_t count, index_t x_step,
                       index_t w_step, index_t offset)
{
    run_t run = {x, w};
    int32_t sum = bias;
    for (index_t left = count; left > 0; left -= BLOCK) {
        sum += add_block(&run, (uint8_t)minimum(left, BLOCK), x_step, w_step, offset);
    }
    return sum;
}

/* All output channels, one at a time. A channel has `size` weights. */
INLINE void products_single(const convolution_t *layer, const window_t *window, index_t size, int8_t *output)
{
    const finish_t rule = finish_of(layer);
    const index_t channels = layer->out_c;
    const FLASH int8_t *weights = &layer->weights[window->weight];
    for (index_t channel = 0; channel < channels; ++channel) {
        const int8_t *x = window->input;
        const FLASH int8_t *w = weights;
        int32_t sum = layer->bias[channel];
        for (index_t band = window->bands; band > 0; --band) {
            for (index_t run = window->runs; run > 0; --run) {
                sum = add_run(sum, x, w, window->count, 1, 1, window->offset);
                x += window->input_run;
                w += window->weight_run;
            }
            x += window->input_band;
            w += window->weight_band;
        }
        output[channel] = finish(&rule, channel, sum);
        weights += size;
    }
}

#endif
