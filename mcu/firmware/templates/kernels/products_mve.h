/* The loops of products.h for the vector extension (Helium): sixteen products an instruction, in loops whose last turn
 * takes what is left. In assembly around all output channels, as the compiler would spill its registers; what these have no
 * room for lies in a frame. */
#ifndef PRODUCTS_MVE_H
#define PRODUCTS_MVE_H

#include <stddef.h>

#define VECTOR 16 /* values */
#define VECTOR_SUMS 4   /* sums of a vector */

/* The registers r1 to r10 at the start of a channel, r7 the runs, then what the loops look up. */
typedef struct {
    const int8_t *x0;
    int32_t zero0;
    const int8_t *x1;
    int32_t zero1;
    const int8_t *x2;
    int32_t zero2, runs, zero3;
    const int8_t *x3;
    int32_t zero4;
    int32_t input_run, weight_run, bands, band, input_band, weight_band; /* 40 */
    const int32_t *bias, *multiplier;                                    /* 64 */
    const int8_t *shift;                                                 /* 72 */
    int8_t *output;
    int32_t offset, out_offset;                                          /* 80 */
    const int32_t *bias_end;                                             /* 88 */
    int32_t weight_next;
    const int8_t *w;                                                     /* 96 */
    int32_t count, kept;
} several_t;

_Static_assert(offsetof(several_t, kept) == 104, "what the assembly looks up");

/* A run at four positions; `tally` adds the weights. */
#define SEVERAL_RUN(tally)                       \
    "dlstp.8 lr, r12\n"                          \
    "4:\n\t"                                     \
    "vldrb.8 q0, [r11], #16\n\t"                 \
    "vldrb.8 q1, [r1], #16\n\t" tally            \
    "vldrb.8 q2, [r3], #16\n\t"                  \
    "vmladava.s8 r2, q0, q1\n\t"                 \
    "vldrb.8 q1, [r5], #16\n\t"                  \
    "vmladava.s8 r4, q0, q2\n\t"                 \
    "vldrb.8 q2, [r9], #16\n\t"                  \
    "vmladava.s8 r6, q0, q1\n\t"                 \
    "vmladava.s8 r8, q0, q2\n\t"                 \
    "letp lr, 4b\n\t"

/* On to the next run or band of the windows and of the weights. */
#define SEVERAL_STEP(input, weight)              \
    "ldr lr, [r0, #" input "]\n\t"               \
    "add r1, lr\n\t"                             \
    "add r3, lr\n\t"                             \
    "add r5, lr\n\t"                             \
    "add r9, lr\n\t"                             \
    "ldr lr, [r0, #" weight "]\n\t"              \
    "add r11, lr\n\t"

#define SEVERAL_BANDS                            \
    "ldr lr, [r0, #48]\n"                        \
    "2:\n\t"                                     \
    "str lr, [r0, #52]\n"                        \
    "3:\n\t"                                     \
    SEVERAL_RUN("vaddva.s8 r10, q0\n\t")         \
    SEVERAL_STEP("40", "44")                     \
    "subs r7, #1\n\t"                            \
    "bne 3b\n\t"                                 \
    "ldr lr, [r0, #52]\n\t"                      \
    "subs lr, lr, #1\n\t"                        \
    "beq 5f\n\t"                                 \
    "mov r7, lr\n\t"                             \
    SEVERAL_STEP("56", "60")                     \
    "mov lr, r7\n\t"                             \
    "ldr r7, [r0, #24]\n\t"                      \
    "b 2b\n"                                     \
    "5:\n\t"

/* All channels, one at a time. */
#define SEVERAL(bands, offset)                                                                    \
    __asm volatile("str r7, [r0, #104]\n\t"                                                       \
                   "ldrd r11, r12, [r0, #96]\n"                                                   \
                   "1:\n\t"                                                                       \
                   "ldm r0, {r1-r10}\n\t" bands                                                   \
                   "vmov q0[2], q0[0], r2, r6\n\t"                                                \
                   "vmov q0[3], q0[1], r4, r8\n\t"                                                \
                   "ldrd r1, r3, [r0, #64]\n\t"                                                   \
                   "ldrd r5, r9, [r0, #72]\n\t"                                                   \
                   "ldrd r2, r4, [r0, #80]\n\t"                                                   \
                   "ldr r6, [r1], #4\n\t"                                                         \
                   "ldr r7, [r3], #4\n\t"                                                         \
                   "ldrsb r8, [r5], #1\n\t" offset                                                \
                   "vadd.i32 q0, q0, r6\n\t"                                                      \
                   "cmp r8, #0\n\t"                                                               \
                   "bge 7f\n\t"                                                                   \
                   "vqrdmulh.s32 q0, q0, r7\n\t"                                                  \
                   "vshr.s32 q1, q0, #31\n\t"                                                     \
                   "vadd.i32 q0, q0, q1\n\t"                                                      \
                   "vrshl.s32 q0, r8\n"                                                           \
                   "6:\n\t"                                                                       \
                   "vadd.i32 q0, q0, r4\n\t"                                                      \
                   "vmax.s32 q0, q0, %q[low]\n\t"                                                 \
                   "vmin.s32 q0, q0, %q[high]\n\t"                                                \
                   "vstrb.32 q0, [r9, %q[places]]\n\t"                                            \
                   "adds r9, #1\n\t"                                                              \
                   "strd r1, r3, [r0, #64]\n\t"                                                   \
                   "strd r5, r9, [r0, #72]\n\t"                                                   \
                   "ldrd r2, r4, [r0, #88]\n\t"                                                   \
                   "add r11, r4\n\t"                                                              \
                   "cmp r1, r2\n\t"                                                               \
                   "bne 1b\n\t"                                                                   \
                   "b 8f\n"                                                                       \
                   "7:\n\t"                                                                       \
                   "vshl.s32 q0, r8\n\t"                                                          \
                   "vqrdmulh.s32 q0, q0, r7\n\t"                                                  \
                   "b 6b\n"                                                                       \
                   "8:\n\t"                                                                       \
                   "ldr r7, [r0, #104]"                                                           \
                   :                                                                              \
                   : "r"(at), [low] "w"(low), [high] "w"(high), [places] "w"(places)              \
                   : "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr",   \
                     "q0", "q1", "q2", "cc", "memory")

/* What all windows have in common; in assignments, as the compiler would set all of the frame to 0 first. */
INLINE void prepare(several_t *frame, const convolution_t *layer, int32_t runs, int32_t count)
{
    frame->zero0 = 0;
    frame->zero1 = 0;
    frame->zero2 = 0;
    frame->zero3 = 0;
    frame->zero4 = 0;
    frame->runs = runs;
    frame->count = count;
    frame->out_offset = layer->out_offset;
    frame->bias_end = &layer->bias[layer->out_c];
}

/* From a window's first channel at four positions on. */
INLINE void start(several_t *frame, const convolution_t *layer, const int8_t *x, int32_t next, int8_t *output)
{
    frame->x0 = x;
    frame->x1 = &x[next];
    frame->x2 = &x[2 * next];
    frame->x3 = &x[3 * next];
    frame->bias = layer->bias;
    frame->multiplier = layer->multiplier;
    frame->shift = layer->shift;
    frame->output = output;
}

/* All output channels at four positions. */
INLINE void products_several(const convolution_t *layer, const window_t *window, int32_t size, int32_t next,
                             int8_t *output, int32_t output_next)
{
    const int32x4_t low = vdupq_n_s32(layer->out_min), high = vdupq_n_s32(layer->out_max);
    const uint32x4_t places = vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)output_next);
    const bool empty = (window->bands <= 0) || (window->runs <= 0) || (window->count <= 0);
    const int32_t bands = empty ? 1 : window->bands, runs = empty ? 1 : window->runs, count = empty ? 0 : window->count;
    const int32_t blocks = empty ? VECTOR : ((count + (VECTOR - 1)) & ~(VECTOR - 1));
    several_t frame;
    register several_t *const at __asm("r0") = &frame;
    prepare(&frame, layer, runs, count);
    start(&frame, layer, window->input, next, output);
    frame.input_run = window->input_run - blocks;
    frame.weight_run = window->weight_run - blocks;
    frame.bands = bands;
    frame.input_band = window->input_band;
    frame.weight_band = window->weight_band;
    frame.offset = window->offset;
    frame.w = &layer->weights[window->weight];
    frame.weight_next = size - (bands * ((runs * window->weight_run) + window->weight_band)) + window->weight_band;
    SEVERAL(SEVERAL_BANDS, "mla r6, r10, r2, r6\n\t");
}

/* The same of windows that are one run, at some times four positions. */
INLINE void products_of_runs(const convolution_t *layer, const int8_t *input, int32_t size, int32_t next, int32_t times,
                             int8_t *output)
{
    const int32x4_t low = vdupq_n_s32(layer->out_min), high = vdupq_n_s32(layer->out_max);
    const uint32x4_t places = vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)layer->out_c);
    several_t frame;
    prepare(&frame, layer, 1, size);
    frame.w = layer->weights;
    frame.weight_next = size - ((size + (VECTOR - 1)) & ~(VECTOR - 1));
    for (int32_t done = 0; done < times; ++done) {
        register several_t *const at __asm("r0") = &frame;
        start(&frame, layer, &input[POSITIONS * done * next], next, &output[POSITIONS * done * layer->out_c]);
        SEVERAL(SEVERAL_RUN(""), "");
    }
}

/* The registers r1 to r10 at the start of four channels at one position, r7 the runs; the weights of the second to fourth
 * channel lie `next` behind those of the one before. */
typedef struct {
    const int8_t *x;
    int32_t zero0;
    const int8_t *w;
    int32_t zero1, next0, zero2, runs, zero3, next1, next2;
    int32_t input_run, weight_run, count, kept; /* 40 */
} single_t;

/* A vector of a channel's weights, and what the offset adds. */
#define SINGLE_WEIGHTS(from, sum) "vldrb.8 q1, [" from "], #16\n\tvmladava.s8 " sum ", q0, q1\n\t"
#define SINGLE_OFFSET(sum) "vmladava.s8 " sum ", q1, %q[further]\n\t"

/* Four channels at one position; `x` is what else is done with a vector of values, a to d with each channel's weights, runs
 * with the next runs of the window. */
#define SINGLE(x, a, b, c, d, runs)                                                               \
    __asm volatile("str r7, [r0, #52]\n\t"                                                        \
                   "ldm r0, {r1-r10}\n\t"                                                         \
                   "ldr r12, [r0, #48]\n\t"                                                       \
                   "add r5, r3\n\t"                                                               \
                   "add r9, r5\n\t"                                                               \
                   "add r11, r9, r10\n"                                                           \
                   "1:\n\t"                                                                       \
                   "dlstp.8 lr, r12\n"                                                            \
                   "2:\n\t"                                                                       \
                   "vldrb.8 q0, [r1], #16\n\t" x                                                  \
                   SINGLE_WEIGHTS("r3", "r2") a SINGLE_WEIGHTS("r5", "r4") b                      \
                   SINGLE_WEIGHTS("r9", "r6") c SINGLE_WEIGHTS("r11", "r8") d                     \
                   "letp lr, 2b\n\t" runs                                                         \
                   "vmov q0[2], q0[0], r2, r6\n\t"                                                \
                   "vmov q0[3], q0[1], r4, r8\n\t"                                                \
                   "vmov %q[sum], q0\n\t"                                                         \
                   "ldr r7, [r0, #52]"                                                            \
                   : [sum] "=w"(sum)                                                              \
                   : "r"(at), [negated] "w"(negated), [further] "w"(further)                      \
                   : "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr",   \
                     "q0", "q1", "cc", "memory")

#define SINGLE_RUNS                              \
    "ldr lr, [r0, #40]\n\t"                      \
    "add r1, lr\n\t"                             \
    "ldr lr, [r0, #44]\n\t"                      \
    "add r3, lr\n\t"                             \
    "add r5, lr\n\t"                             \
    "add r9, lr\n\t"                             \
    "add r11, lr\n\t"                            \
    "subs r7, #1\n\t"                            \
    "bne 1b\n\t"

/* All output channels at one position, four at a time; the last start early enough to be four. A value plus its offset
 * may take nine bits, so that these are multiplied apart: x w + offset w. A positive offset may take nine itself: then
 * -(~x w + (1 - offset) w), as ~x is -x - 1. */
INLINE void products_single(const convolution_t *layer, const window_t *window, int32_t size, int8_t *output)
{
    const finish_t rule = finish_of(layer);
    const int32_t channels = layer->out_c, last = (channels > VECTOR_SUMS) ? (channels - VECTOR_SUMS) : 0;
    const mve_pred16_t lanes = vctp32q((uint32_t)channels);
    const bool one_run = __builtin_constant_p(window->offset) && (window->offset == 0);
    const bool negative = !one_run && (window->offset >= 0);
    const int8x16_t negated = vdupq_n_s8(negative ? -1 : 0);
    const int8x16_t further = vdupq_n_s8((int8_t)(negative ? (1 - window->offset) : window->offset));
    const bool empty = (window->runs <= 0) || (window->count <= 0);
    const int32_t count = window->count, blocks = (count + (VECTOR - 1)) & ~(VECTOR - 1);
    single_t frame = {window->input, 0, layer->weights, 0, (channels > 1) ? size : 0, 0, window->runs, 0,
                      (channels > 2) ? size : 0, (channels > 3) ? size : 0, window->input_run - blocks,
                      window->weight_run - blocks, count, 0};
    register single_t *const at __asm("r0") = &frame;
    for (int32_t done = 0; done < channels; done += VECTOR_SUMS) {
        const int32_t channel = minimum(done, last);
        int32x4_t sum, sums = vdupq_n_s32(0);
        frame.x = window->input;
        frame.w = &layer->weights[window->weight + (channel * size)];
        for (int32_t band = empty ? 0 : window->bands; band > 0; --band) {
            if (one_run) {
                SINGLE("", "", "", "", "", "");
            } else {
                SINGLE("veor q0, q0, %q[negated]\n\t", SINGLE_OFFSET("r2"), SINGLE_OFFSET("r4"), SINGLE_OFFSET("r6"),
                       SINGLE_OFFSET("r8"), SINGLE_RUNS);
            }
            sums = vaddq_s32(sums, sum);
            frame.x += (window->runs * window->input_run) + window->input_band;
            frame.w += (window->runs * window->weight_run) + window->weight_band;
        }
        const int32x4_t bias = vldrwq_z_s32(&layer->bias[channel], lanes);
        finish_lanes(&rule, channel, vmlaq_n_s32(bias, sums, negative ? -1 : 1), lanes, &output[channel]);
    }
}

#endif
