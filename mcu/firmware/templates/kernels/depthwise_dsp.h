/* The inner loop of the depthwise convolution with the DSP instructions. */
#ifndef DEPTHWISE_DSP_H
#define DEPTHWISE_DSP_H

/* Four channels: where their next tap lies, and their sums. */
typedef struct {
    const int8_t *x, *w;
    int32_t sum[LANES];
} lanes_t;

/* One tap; on to the next. In one piece, as the compiler would load taps ahead until it runs out of registers. */
static inline void add_tap(lanes_t *lanes, int32_t input_run, int32_t weight_run, int32_t offset)
{
    uint32_t a, b, a_odd, b_odd;
    __asm("ldr %[a], [%[x]]\n\t"
          "ldr %[b], [%[w]]\n\t"
          "add %[x], %[x], %[input_run]\n\t"
          "add %[w], %[w], %[weight_run]\n\t"
          "sxtab16 %[a_odd], %[offsets], %[a], ror #8\n\t"
          "sxtb16 %[b_odd], %[b], ror #8\n\t"
          "smlabb %[s1], %[a_odd], %[b_odd], %[s1]\n\t"
          "smlatt %[s3], %[a_odd], %[b_odd], %[s3]\n\t"
          "sxtab16 %[a], %[offsets], %[a]\n\t"
          "sxtb16 %[b], %[b]\n\t"
          "smlabb %[s0], %[a], %[b], %[s0]\n\t"
          "smlatt %[s2], %[a], %[b], %[s2]"
          : [a] "=&r"(a), [b] "=&r"(b), [a_odd] "=&r"(a_odd), [b_odd] "=&r"(b_odd), [x] "+&r"(lanes->x),
            [w] "+&r"(lanes->w), [s0] "+&r"(lanes->sum[0]), [s1] "+&r"(lanes->sum[1]), [s2] "+&r"(lanes->sum[2]),
            [s3] "+&r"(lanes->sum[3])
          : [input_run] "r"(input_run), [weight_run] "r"(weight_run), [offsets] "r"(pair(offset))
          : "memory");
}

#endif
