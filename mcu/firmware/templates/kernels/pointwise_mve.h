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

/* Two vectors of weights, the second r12 behind the first, at two positions; on to the next channel. */
#define TWO_VECTORS(from, here, there)     \
    "vldrb.8 q0, [" from "]\n\t"           \
    "add " from ", r12\n\t"                \
    "vmladav.s8 " here ", q0, %q[x0]\n\t"  \
    "vmladav.s8 " there ", q0, %q[y0]\n\t" \
    "vldrb.8 q0, [" from "], #16\n\t"      \
    "vmladava.s8 " here ", q0, %q[x1]\n\t" \
    "vmladava.s8 " there ", q0, %q[y1]\n\t"

/* What the loop of two vectors keeps in registers: weights of the first and of the third channel of four, constants, where
 * outputs go, how far a channel's second vector is behind its first; and in vectors of halves what is added to rescaled
 * sums and bounds them. */
typedef struct {
    const int8_t *w, *third;
    const int32_t *bias, *multiplier;
    const int8_t *shift;
    int8_t *output;
    int32_t further, times;
    int16x8_t offset, low, high; /* 32 */
} vectors_t;

/* Some times four channels, whose weights are two vectors each, at two positions, whose outputs are halves of the same
 * lanes. */
INLINE void channels_of_vectors(const vectors_t *frame, const int8x16_t x[2], const int8x16_t y[2], uint16x8_t places)
{
    int32x4_t here, there;
    register const vectors_t *const at __asm("r0") = frame;
    __asm volatile("ldrd r1, r2, [r0]\n\t"
                   "ldrd r3, r9, [r0, #8]\n\t"
                   "ldrd r5, r11, [r0, #16]\n\t"
                   "ldrd r12, lr, [r0, #24]\n\t"
                   "dls lr, lr\n"
                   "1:\n\t"
                   TWO_VECTORS("r1", "r4", "r6") TWO_VECTORS("r2", "r8", "r10")
                   "vmov %q[here][2], %q[here][0], r4, r8\n\t"
                   "vmov %q[there][2], %q[there][0], r6, r10\n\t"
                   TWO_VECTORS("r1", "r4", "r6") TWO_VECTORS("r2", "r8", "r10")
                   "vmov %q[here][3], %q[here][1], r4, r8\n\t"
                   "vmov %q[there][3], %q[there][1], r6, r10\n\t"
                   "mov r1, r2\n\t"
                   "add r2, r2, r12, lsl #1\n\t"
                   "adds r2, #32\n\t"
                   "vldrw.32 q0, [r3], #16\n\t"
                   "vadd.i32 %q[here], %q[here], q0\n\t"
                   "vadd.i32 %q[there], %q[there], q0\n\t"
                   "vldrw.32 q0, [r9], #16\n\t"
                   "vqrdmulh.s32 %q[here], %q[here], q0\n\t"
                   "vqrdmulh.s32 %q[there], %q[there], q0\n\t"
                   "vshr.s32 q0, %q[here], #31\n\t"
                   "vadd.i32 %q[here], %q[here], q0\n\t"
                   "vshr.s32 q0, %q[there], #31\n\t"
                   "vadd.i32 %q[there], %q[there], q0\n\t"
                   "vldrb.s32 q0, [r5], #4\n\t"
                   "vrshl.s32 %q[here], %q[here], q0\n\t"
                   "vrshl.s32 %q[there], %q[there], q0\n\t"
                   "vqmovnb.s32 %q[here], %q[here]\n\t"
                   "vqmovnt.s32 %q[here], %q[there]\n\t"
                   "vldrw.32 q0, [r0, #32]\n\t"
                   "vqadd.s16 %q[here], %q[here], q0\n\t"
                   "vldrw.32 q0, [r0, #48]\n\t"
                   "vmax.s16 %q[here], %q[here], q0\n\t"
                   "vldrw.32 q0, [r0, #64]\n\t"
                   "vmin.s16 %q[here], %q[here], q0\n\t"
                   "vstrb.16 %q[here], [r11, %q[places]]\n\t"
                   "add r11, #4\n\t"
                   "le lr, 1b"
                   : [here] "=&w"(here), [there] "=&w"(there)
                   : "r"(at), [x0] "w"(x[0]), [x1] "w"(x[1]), [y0] "w"(y[0]), [y1] "w"(y[1]), [places] "w"(places)
                   : "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "q0", "cc", "memory");
}

INLINE vectors_t vectors_at(const convolution_t *layer, const finish_t *rule, int32_t size, int32_t channel, int32_t times)
{
    const int8_t *const w = &layer->weights[channel * size];
    const vectors_t frame = {w, &w[2 * size], &layer->bias[channel], &rule->multiplier[channel], &rule->shift[channel],
                             NULL, size - VECTOR, times, vdupq_n_s16((int16_t)rule->offset),
                             vdupq_n_s16((int16_t)rule->low), vdupq_n_s16((int16_t)rule->high)};
    return frame;
}

/* The same of windows of one to two vectors at two positions, four channels at a time. The second vector of a window, the
 * last channels and the last positions start early enough to be whole. */
OUTLINE void runs_of_two_vectors(const convolution_t *layer, const int8_t *input, int32_t size, int32_t next,
                                 int32_t positions, int8_t *output)
{
    const finish_t rule = finish_of(layer);
    const int32_t channels = layer->out_c, further = size - VECTOR, left = channels - VECTOR_SUMS;
    vectors_t frames[2] = {vectors_at(layer, &rule, size, 0, channels / VECTOR_SUMS),
                           vectors_at(layer, &rule, size, left, 1)};
    const int32_t parts = ((channels % VECTOR_SUMS) == 0) ? 1 : 2;
    const uint16x8_t lanes = vidupq_n_u16(0, 1), odd = vandq_u16(lanes, vdupq_n_u16(1));
    const uint16x8_t places = vmlaq_n_u16(vshrq_n_u16(lanes, 1), odd, (uint16_t)channels);
    const mve_pred16_t twice = vctp8q((uint32_t)(VECTOR - further)); /* values that are in the first vector already */
    for (int32_t done = 0; done < positions; done += 2) {
        const int32_t at = minimum(done, positions - 2);
        const int8_t *const from = &input[at * next];
        const int8x16_t zero = vdupq_n_s8(0);
        const int8x16_t x[2] = {vldrbq_s8(from), vpselq_s8(zero, vldrbq_s8(&from[further]), twice)};
        const int8x16_t y[2] = {vldrbq_s8(&from[next]), vpselq_s8(zero, vldrbq_s8(&from[next + further]), twice)};
        frames[0].output = &output[at * channels];
        frames[1].output = &output[(at * channels) + left];
        for (int32_t part = 0; part < parts; ++part) {
            channels_of_vectors(&frames[part], x, y, places);
        }
    }
}

#endif
