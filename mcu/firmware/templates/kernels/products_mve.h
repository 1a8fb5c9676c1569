/* The loops of products.h for the vector extension (Helium): sixteen products an instruction, in loops whose last turn
 * takes what is left. The offset is applied at the end, to the sum of the weights. */
#ifndef PRODUCTS_MVE_H
#define PRODUCTS_MVE_H

#define VECTOR 16 /* values */
#define VECTOR_SUMS 4   /* sums of a vector */

/* Of an output channel at four positions, and of its weights. */
typedef struct {
    int32_t at[POSITIONS], weights;
} sums_t;

/* One run of a window, at four positions; leaves the pointers behind its last whole block. In one piece, as the compiler
 * would spill them. */
#define ADD_RUN(tally)                                                                                             \
    __asm("dlstp.8 lr, %[x3]\n\t"                                                                                  \
          "add %[x1], %[x0], %[next]\n\t"                                                                          \
          "add %[x2], %[x1], %[next]\n\t"                                                                          \
          "add %[x3], %[x2], %[next]\n"                                                                            \
          "1:\n\t"                                                                                                 \
          "vldrb.8 q0, [%[w]], #16\n\t"                                                                            \
          "vldrb.8 q1, [%[x0]], #16\n\t" tally "vldrb.8 q2, [%[x1]], #16\n\t"                                      \
          "vmladava.s8 %[s0], q0, q1\n\t"                                                                          \
          "vldrb.8 q1, [%[x2]], #16\n\t"                                                                           \
          "vmladava.s8 %[s1], q0, q2\n\t"                                                                          \
          "vldrb.8 q2, [%[x3]], #16\n\t"                                                                           \
          "vmladava.s8 %[s2], q0, q1\n\t"                                                                          \
          "vmladava.s8 %[s3], q0, q2\n\t"                                                                          \
          "letp lr, 1b"                                                                                            \
          : [s0] "+Te"(sum->at[0]), [s1] "+Te"(sum->at[1]), [s2] "+Te"(sum->at[2]), [s3] "+Te"(sum->at[3]),        \
            [sum] "+Te"(sum->weights), [x0] "+r"(*x), [x1] "=&r"(x1), [x2] "=&r"(x2), [x3] "+r"(left), [w] "+r"(*w) \
          : [next] "r"(next)                                                                                       \
          : "q0", "q1", "q2", "lr", "memory")

INLINE void add_run(sums_t *sum, const int8_t **x, int32_t next, const int8_t **w, int32_t count, int32_t offset)
{
    const int8_t *x1, *x2;
    int32_t left = count; /* then the fourth position */
    if (__builtin_constant_p(offset) && (offset == 0)) {
        ADD_RUN("");
    } else {
        ADD_RUN("vaddva.s8 %[sum], q0\n\t");
    }
}

/* Of two output channels at one position, and of their weights. */
typedef struct {
    int32_t at[2], weights[2];
} two_sums_t;

INLINE void add_run_single(two_sums_t *sum, const int8_t *x, const int8_t *w, int32_t other, int32_t count)
{
    const int8_t *from = x, *w0 = w, *w1 = &w[other];
    __asm("dlstp.8 lr, %[count]\n"
          "1:\n\t"
          "vldrb.8 q0, [%[x]], #16\n\t"
          "vldrb.8 q1, [%[w0]], #16\n\t"
          "vldrb.8 q2, [%[w1]], #16\n\t"
          "vmladava.s8 %[s0], q0, q1\n\t"
          "vaddva.s8 %[t0], q1\n\t"
          "vmladava.s8 %[s1], q0, q2\n\t"
          "vaddva.s8 %[t1], q2\n\t"
          "letp lr, 1b"
          : [s0] "+Te"(sum->at[0]), [s1] "+Te"(sum->at[1]), [t0] "+Te"(sum->weights[0]), [t1] "+Te"(sum->weights[1]),
            [x] "+r"(from), [w0] "+r"(w0), [w1] "+r"(w1)
          : [count] "r"(count)
          : "q0", "q1", "q2", "lr", "memory");
}

/* All output channels at one position, two at a time; an odd last one is computed beside itself. */
INLINE void products_single(const convolution_t *layer, const window_t *window, int32_t size, int8_t *output)
{
    const finish_t rule = finish_of(layer);
    const int32_t channels = layer->out_c;
    const int8_t *weights = &layer->weights[window->weight];
    for (int32_t channel = 0; channel < channels; channel += 2) {
        const int32_t second = minimum(channel + 1, channels - 1);
        const int32_t other = (second - channel) * size;
        two_sums_t sum = {{layer->bias[channel], layer->bias[second]}, {0, 0}};
        const int8_t *x = window->input, *w = weights;
        for (int32_t band = window->bands; band > 0; --band) {
            for (int32_t run = window->runs; run > 0; --run) {
                add_run_single(&sum, x, w, other, window->count);
                x += window->input_run;
                w += window->weight_run;
            }
            x += window->input_band;
            w += window->weight_band;
        }
        output[channel] = finish(&rule, channel, sum.at[0] + (window->offset * sum.weights[0]));
        output[second] = finish(&rule, second, sum.at[1] + (window->offset * sum.weights[1]));
        weights = &weights[2 * size];
    }
}

/* All output channels at four positions, one at a time. */
INLINE void products_several(const convolution_t *layer, const window_t *window, int32_t size, int32_t next,
                             int8_t *output, int32_t output_next)
{
    const finish_t rule = finish_of(layer);
    const int32_t channels = layer->out_c;
    const uint32x4_t places = vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)output_next);
    const int32_t *const biases = layer->bias;
    const int8_t *weights = &layer->weights[window->weight];
    const int32_t count = window->count, blocks = (count + (VECTOR - 1)) & ~(VECTOR - 1);
    const int32_t input_run = window->input_run - blocks, weight_run = window->weight_run - blocks;
    for (int32_t channel = 0; channel < channels; ++channel) {
        sums_t sum = {{0, 0, 0, 0}, 0};
        const int8_t *x = window->input, *w = weights;
        for (int32_t band = window->bands; band > 0; --band) {
            for (int32_t run = window->runs; run > 0; --run) {
                add_run(&sum, &x, next, &w, count, window->offset);
                x += input_run;
                w += weight_run;
            }
            x += window->input_band;
            w += window->weight_band;
        }
        const int32_t bias = biases[channel] + (window->offset * sum.weights);
        finish_positions(&rule, channel, vaddq_n_s32(four(sum.at), bias), places, &output[channel]);
        weights = &weights[size];
    }
}

#endif
