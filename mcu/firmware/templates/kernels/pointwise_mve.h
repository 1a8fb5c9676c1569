/* Runs of one or two vectors (Helium): their values stay in registers at several positions, while the weights of all output
 * channels pass by. All shifts are to the right. In assembly, as the compiler would load ahead and run out of registers. */
#ifndef POINTWISE_MVE_H
#define POINTWISE_MVE_H

/* Where weights and constants of the next output channel lie. */
typedef struct {
    const int8_t *w;
    const int32_t *bias, *multiplier;
    const int8_t *shift;
} channel_t;

/* A channel, whose weights are one vector, at four positions, rescaled; on to the next. */
INLINE int32x4_t products_of_vector(channel_t *of, int8x16_t x0, int8x16_t x1, int8x16_t x2, int8x16_t x3)
{
    int32x4_t sum, sign;
    int32_t a, b, c, d;
    __asm volatile("vldrb.8 %q[sum], [%[w]], #16\n\t"
                   "vmladav.s8 %[a], %q[sum], %q[x0]\n\t"
                   "vmladav.s8 %[b], %q[sum], %q[x1]\n\t"
                   "vmladav.s8 %[c], %q[sum], %q[x2]\n\t"
                   "vmladav.s8 %[d], %q[sum], %q[x3]\n\t"
                   "vmov %q[sum][2], %q[sum][0], %[a], %[c]\n\t"
                   "vmov %q[sum][3], %q[sum][1], %[b], %[d]\n\t"
                   "ldr %[a], [%[bias]], #4\n\t"
                   "ldr %[b], [%[multiplier]], #4\n\t"
                   "ldrsb %[c], [%[shift]], #1\n\t"
                   "vadd.i32 %q[sum], %q[sum], %[a]\n\t"
                   "vqrdmulh.s32 %q[sum], %q[sum], %[b]\n\t"
                   "vshr.s32 %q[sign], %q[sum], #31\n\t"
                   "vadd.i32 %q[sum], %q[sum], %q[sign]\n\t"
                   "vrshl.s32 %q[sum], %[c]"
                   : [sum] "=&w"(sum), [sign] "=&w"(sign), [a] "=&Te"(a), [b] "=&Te"(b), [c] "=&Te"(c), [d] "=&Te"(d),
                     [w] "+r"(of->w), [bias] "+r"(of->bias), [multiplier] "+r"(of->multiplier), [shift] "+r"(of->shift)
                   : [x0] "w"(x0), [x1] "w"(x1), [x2] "w"(x2), [x3] "w"(x3)
                   : "memory");
    return sum;
}

/* All output channels, two at a time, of windows that are one vector each, at four positions; the last start early enough
 * to be four. Of two channels the values are halves of the same lanes. */
OUTLINE void runs_of_one_vector(const convolution_t *layer, const int8_t *input, int32_t next, int32_t positions,
                                int8_t *output)
{
    const finish_t rule = finish_of(layer);
    const channel_t first = {layer->weights, layer->bias, rule.multiplier, rule.shift};
    const int32_t channels = layer->out_c;
    const uint16x8_t lanes = vidupq_n_u16(0, 1), odd = vandq_u16(lanes, vdupq_n_u16(1));
    const uint16x8_t places = vmlaq_n_u16(odd, vshrq_n_u16(lanes, 1), (uint16_t)channels);
    for (int32_t done = 0; done < positions; done += 4) {
        const int32_t at = minimum(done, positions - 4);
        const int8_t *const x = &input[at * next];
        const int8x16_t x0 = vldrbq_s8(x), x1 = vldrbq_s8(&x[next]);
        const int8x16_t x2 = vldrbq_s8(&x[2 * next]), x3 = vldrbq_s8(&x[3 * next]);
        channel_t channel = first;
        int8_t *out = &output[at * channels];
        for (int32_t left = channels / 2; left > 0; --left) {
            int32x4_t both = products_of_vector(&channel, x0, x1, x2, x3);
            const int32x4_t second = products_of_vector(&channel, x0, x1, x2, x3);
            __asm("vqmovnb.s32 %q0, %q0\n\tvqmovnt.s32 %q0, %q1" : "+&w"(both) : "w"(second));
            const int16x8_t value = vqaddq_n_s16(vreinterpretq_s16_s32(both), (int16_t)rule.offset);
            vstrbq_scatter_offset_s16(out, places, clamp_halves(value, rule.low, rule.high));
            out += 2;
        }
    }
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

/* Four channels, whose weights are two vectors each, at two positions, rescaled; on to the next. `on` is from the second
 * vector of a channel to the first of the channel after the next. */
INLINE void products_of_vectors(channel_t *of, int32x4_t sum[2], const int8x16_t x[2], const int8x16_t y[2],
                                int32_t further, int32_t on)
{
    int32_t a, b, c, d;
    __asm volatile(TWO_VECTORS("a", "b") "add %[w], %[w], %[on]\n\t" /* channels 0, 2, 1, 3 */
                   TWO_VECTORS("c", "d") "sub %[w], %[w], %[on], lsl #1\n\t"
                   "add %[w], %[w], #48\n\t"
                   "vmov %q[here][2], %q[here][0], %[a], %[c]\n\t"
                   "vmov %q[there][2], %q[there][0], %[b], %[d]\n\t"
                   TWO_VECTORS("a", "b") "add %[w], %[w], %[on]\n\t"
                   TWO_VECTORS("c", "d") "add %[w], %[w], #16\n\t"
                   "vmov %q[here][3], %q[here][1], %[a], %[c]\n\t"
                   "vmov %q[there][3], %q[there][1], %[b], %[d]\n\t"
                   "vldrw.32 q0, [%[bias]], #16\n\t"
                   "vadd.i32 %q[here], %q[here], q0\n\t"
                   "vadd.i32 %q[there], %q[there], q0\n\t"
                   "vldrw.32 q0, [%[multiplier]], #16\n\t"
                   "vqrdmulh.s32 %q[here], %q[here], q0\n\t"
                   "vqrdmulh.s32 %q[there], %q[there], q0\n\t"
                   "vshr.s32 q0, %q[here], #31\n\t"
                   "vadd.i32 %q[here], %q[here], q0\n\t"
                   "vshr.s32 q0, %q[there], #31\n\t"
                   "vadd.i32 %q[there], %q[there], q0\n\t"
                   "vldrb.s32 q0, [%[shift]], #4\n\t"
                   "vrshl.s32 %q[here], %q[here], q0\n\t"
                   "vrshl.s32 %q[there], %q[there], q0"
                   : [here] "=&w"(sum[0]), [there] "=&w"(sum[1]), [a] "=&Te"(a), [b] "=&Te"(b), [c] "=&Te"(c),
                     [d] "=&Te"(d), [w] "+r"(of->w), [bias] "+r"(of->bias), [multiplier] "+r"(of->multiplier),
                     [shift] "+r"(of->shift)
                   : [x0] "w"(x[0]), [x1] "w"(x[1]), [y0] "w"(y[0]), [y1] "w"(y[1]), [further] "r"(further), [on] "r"(on)
                   : "q0", "memory");
}

/* The same of windows of one to two vectors at two positions, four channels at a time. The second vector of a window, the
 * last channels and the last positions start early enough to be whole. */
OUTLINE void runs_of_two_vectors(const convolution_t *layer, const int8_t *input, int32_t size, int32_t next,
                                 int32_t positions, int8_t *output)
{
    const finish_t rule = finish_of(layer);
    const channel_t first = {layer->weights, layer->bias, rule.multiplier, rule.shift};
    const int32_t channels = layer->out_c, further = size - VECTOR, on = size + VECTOR;
    const mve_pred16_t twice = vctp8q((uint32_t)(VECTOR - further)); /* values that are in the first vector already */
    for (int32_t done = 0; done < positions; done += 2) {
        const int32_t at = minimum(done, positions - 2);
        const int8_t *const from = &input[at * next];
        const int8x16_t zero = vdupq_n_s8(0);
        const int8x16_t x[2] = {vldrbq_s8(from), vpselq_s8(zero, vldrbq_s8(&from[further]), twice)};
        const int8x16_t y[2] = {vldrbq_s8(&from[next]), vpselq_s8(zero, vldrbq_s8(&from[next + further]), twice)};
        channel_t channel = first;
        int8_t *out = &output[at * channels];
        for (int32_t left = channels; left > 0; left -= VECTOR_SUMS) {
            if (left < VECTOR_SUMS) {
                const int32_t back = VECTOR_SUMS - left;
                channel.w -= back * size;
                channel.bias -= back;
                channel.multiplier -= back;
                channel.shift -= back;
                out -= back;
            }
            int32x4_t sum[2];
            products_of_vectors(&channel, sum, x, y, further, on);
            vstrbq_s32(out, clamp_words(vaddq_n_s32(sum[0], rule.offset), rule.low, rule.high));
            vstrbq_s32(&out[channels], clamp_words(vaddq_n_s32(sum[1], rule.offset), rule.low, rule.high));
            out += VECTOR_SUMS;
        }
    }
}

#endif
