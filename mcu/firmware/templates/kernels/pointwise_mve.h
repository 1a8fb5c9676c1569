/* Runs of one or two vectors (Helium): their values stay in registers at several positions, while the weights of all output
 * channels pass by. All shifts are to the right. */
#ifndef POINTWISE_MVE_H
#define POINTWISE_MVE_H

/* Of a channel, whose weights are one vector, at four positions; on to the next. In one piece, as the compiler would load
 * ahead until it runs out of registers. */
INLINE int32x4_t products_of_vector(const int8_t **w, int8x16_t x0, int8x16_t x1, int8x16_t x2, int8x16_t x3)
{
    int32x4_t sum;
    int32_t a, b, c, d;
    __asm volatile("vldrb.8 %q[sum], [%[w]], #16\n\t"
                   "vmladav.s8 %[a], %q[sum], %q[x0]\n\t"
                   "vmladav.s8 %[b], %q[sum], %q[x1]\n\t"
                   "vmladav.s8 %[c], %q[sum], %q[x2]\n\t"
                   "vmladav.s8 %[d], %q[sum], %q[x3]\n\t"
                   "vmov %q[sum][2], %q[sum][0], %[a], %[c]\n\t"
                   "vmov %q[sum][3], %q[sum][1], %[b], %[d]"
                   : [sum] "=&w"(sum), [a] "=&Te"(a), [b] "=&Te"(b), [c] "=&Te"(c), [d] "=&Te"(d), [w] "+r"(*w)
                   : [x0] "w"(x0), [x1] "w"(x1), [x2] "w"(x2), [x3] "w"(x3)
                   : "memory");
    return sum;
}

/* Two vectors of weights, the second `further` behind the first, at two positions. */
#define TWO_VECTORS(here, there)               \
    "vldrb.8 q0, [%[w]]\n\t"                   \
    "add %[w], %[w], %[further]\n\t"           \
    "vmladav.s8 %[" here "], q0, %q[x0]\n\t"   \
    "vmladav.s8 %[" there "], q0, %q[y0]\n\t"  \
    "vldrb.8 q0, [%[w]]\n\t"                   \
    "vmladava.s8 %[" here "], q0, %q[x1]\n\t"  \
    "vmladava.s8 %[" there "], q0, %q[y1]\n\t"

/* All output channels, two at a time, of windows that are one vector each, whose values stay in vectors at four positions;
 * all shifts are to the right. The last positions start early enough to be four. Of two channels the values are halves of
 * the same lanes. */
OUTLINE void runs_of_one_vector(const convolution_t *layer, const int8_t *input, int32_t next, int32_t positions,
                                int8_t *output)
{
    const finish_t rule = finish_of(layer);
    const int32_t channels = layer->out_c, *const biases = layer->bias;
    const int8_t *const weights = layer->weights;
    const uint16x8_t lanes = vidupq_n_u16(0, 1), odd = vandq_u16(lanes, vdupq_n_u16(1));
    const uint16x8_t places = vmlaq_n_u16(odd, vshrq_n_u16(lanes, 1), (uint16_t)channels);
    for (int32_t done = 0; done < positions; done += 4) {
        const int32_t at = minimum(done, positions - 4);
        const int8_t *const x = &input[at * next], *w = weights, *shift = rule.shift;
        const int8x16_t x0 = vldrbq_s8(x), x1 = vldrbq_s8(&x[next]);
        const int8x16_t x2 = vldrbq_s8(&x[2 * next]), x3 = vldrbq_s8(&x[3 * next]);
        const int32_t *bias = biases, *multiplier = rule.multiplier;
        int8_t *out = &output[at * channels];
        for (int32_t left = channels / 2; left > 0; --left) {
            const int32x4_t sum = vaddq_n_s32(products_of_vector(&w, x0, x1, x2, x3), *bias++);
            const int32x4_t first = rescale_right(sum, *multiplier++, *shift++);
            const int32x4_t sum_next = vaddq_n_s32(products_of_vector(&w, x0, x1, x2, x3), *bias++);
            const int32x4_t second = rescale_right(sum_next, *multiplier++, *shift++);
            const int16x8_t both = vqmovntq_s32(vqmovnbq_s32(vreinterpretq_s16_s32(first), first), second);
            const int16x8_t value = clamp_halves(vqaddq_n_s16(both, (int16_t)rule.offset), rule.low, rule.high);
            vstrbq_scatter_offset_s16(out, places, value);
            out += 2;
        }
    }
}

/* The same of windows of one to two vectors at two positions, four channels at a time. The second vector of a window, the
 * last channels and the last positions start early enough to be whole. */
OUTLINE void runs_of_two_vectors(const convolution_t *layer, const int8_t *input, int32_t size, int32_t next,
                                 int32_t positions, int8_t *output)
{
    const finish_t rule = finish_of(layer);
    const int32_t channels = layer->out_c, further = size - VECTOR, on = size + VECTOR, *const biases = layer->bias;
    const int8_t *const weights = layer->weights;
    const mve_pred16_t twice = vctp8q((uint32_t)(VECTOR - further)); /* values that are in the first vector already */
    for (int32_t done = 0; done < positions; done += 2) {
        const int32_t at = minimum(done, positions - 2);
        const int8_t *const x = &input[at * next], *w = weights, *shifts = rule.shift;
        const int8x16_t zero = vdupq_n_s8(0), x0 = vldrbq_s8(x), y0 = vldrbq_s8(&x[next]);
        const int8x16_t x1 = vpselq_s8(zero, vldrbq_s8(&x[further]), twice);
        const int8x16_t y1 = vpselq_s8(zero, vldrbq_s8(&x[next + further]), twice);
        const int32_t *bias = biases, *multipliers = rule.multiplier;
        int8_t *out = &output[at * channels];
        for (int32_t left = channels, step; left > 0; left -= LANES) {
            int32x4_t here, there;
            int32_t a, b, c, d;
            const int8_t *from = w;
            __asm volatile(TWO_VECTORS("a", "b") "add %[w], %[w], %[on]\n\t" /* channels 0, 2, 1, 3 */
                           TWO_VECTORS("c", "d") "sub %[w], %[w], %[on], lsl #1\n\t"
                           "add %[w], %[w], #48\n\t"
                           "vmov %q[here][2], %q[here][0], %[a], %[c]\n\t"
                           "vmov %q[there][2], %q[there][0], %[b], %[d]\n\t"
                           TWO_VECTORS("a", "b") "add %[w], %[w], %[on]\n\t"
                           TWO_VECTORS("c", "d")
                           "vmov %q[here][3], %q[here][1], %[a], %[c]\n\t"
                           "vmov %q[there][3], %q[there][1], %[b], %[d]"
                           : [here] "=&w"(here), [there] "=&w"(there), [a] "=&Te"(a), [b] "=&Te"(b), [c] "=&Te"(c),
                             [d] "=&Te"(d), [w] "+r"(from)
                           : [x0] "w"(x0), [x1] "w"(x1), [y0] "w"(y0), [y1] "w"(y1), [further] "r"(further),
                             [on] "r"(on)
                           : "q0", "memory");
            const int32x4_t biased = vldrwq_s32(bias), multiplier = vldrwq_s32(multipliers), shift = vldrbq_s32(shifts);
            here = vrshlq_s32(lowered(vqrdmulhq_s32(vaddq_s32(here, biased), multiplier)), shift);
            there = vrshlq_s32(lowered(vqrdmulhq_s32(vaddq_s32(there, biased), multiplier)), shift);
            vstrbq_s32(out, clamp_words(vaddq_n_s32(here, rule.offset), rule.low, rule.high));
            vstrbq_s32(&out[channels], clamp_words(vaddq_n_s32(there, rule.offset), rule.low, rule.high));
            step = minimum(left - LANES, LANES);
            w += step * size;
            bias += step;
            multipliers += step;
            shifts += step;
            out += step;
        }
    }
}

#endif
