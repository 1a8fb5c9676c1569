/* int8 network kernels, bit-exact with the reference kernels of TensorFlow Lite Micro.
 *
 * Tensors are NHWC with batch 1. No kernel allocates memory or needs a scratch buffer: windows that hang
 * over a border are clipped instead of copied; those of a few input channels are copied, to the stack. The
 * input and output of a kernel must not overlap; but add, multiply, relu, prelu and lookup may write over an input.
 */
#ifndef KERNELS_H
#define KERNELS_H

#include <stddef.h>
#include <stdint.h>

#if !defined(KERNEL) /* static where all sources are one file */
#define KERNEL
#endif

/* Where constants lie, how tables and activations are aligned, and the type of counts, places and distances. An AVR
 * reads its flash by instructions of its own, and no map is larger than its RAM: 16 bits, which wrap as addresses do. */
#if defined(__AVR__)
#pragma GCC optimize("wrapv")
#define FLASH __flash
#define ALIGNED
typedef int16_t index_t;
#else
#define FLASH
#define ALIGNED __attribute__((aligned(4)))
typedef int32_t index_t;
#endif

/* A convolution or dense layer; a dense layer is a 1x1 convolution on a 1x1 map. */
struct convolution {
    const FLASH int8_t *weights;        /* (out_c, kernel_h, kernel_w, in_c); depthwise: (kernel_h, kernel_w, out_c) */
    const FLASH int32_t *bias;          /* (out_c) */
    const FLASH int32_t *multiplier;    /* (out_c), Q0.31 */
    const FLASH int8_t *shift;          /* (out_c), powers of two, positive shifts left */
    int16_t in_h, in_w, in_c;
    int16_t out_h, out_w, out_c;
    int16_t kernel_h, kernel_w;
    int16_t stride_h, stride_w;
    int16_t dilation_h, dilation_w;
    int16_t pad_top, pad_left;
    int16_t in_offset;          /* minus the input's zero point */
    int16_t out_offset;         /* the output's zero point */
    int16_t out_min, out_max;   /* the fused activation */
};
typedef const FLASH struct convolution convolution_t;

/* A convolution whose outputs each read one of `groups` equal parts of the input channels. */
typedef const FLASH struct {
    struct convolution layer;   /* weights: (out_c, kernel_h, kernel_w, in_c / groups) */
    int16_t groups;
} grouped_t;

typedef const FLASH struct {
    int16_t in_h, in_w, channels;
    int16_t out_h, out_w;
    int16_t kernel_h, kernel_w;
    int16_t stride_h, stride_w;
    int16_t pad_top, pad_left;
    int16_t out_min, out_max;
} pool_t;

typedef const FLASH struct {
    index_t size;
    int32_t multiplier_a, multiplier_b, out_multiplier;
    int16_t shift_a, shift_b, out_shift;
    int16_t offset_a, offset_b, out_offset;
    int16_t out_min, out_max;
} add_t;

/* Standalone activation, and the scaling half of a mean. */
typedef const FLASH struct {
    index_t size;
    int32_t multiplier;
    int16_t shift;
    int16_t in_offset, out_offset;
    int16_t out_min, out_max;
} rescale_t;

typedef const FLASH struct {
    index_t positions;          /* rows times columns that are averaged */
    index_t channels;
    int32_t multiplier;
    int16_t shift;
    int16_t in_offset, out_offset;
} mean_t;

typedef const FLASH struct {
    int16_t in_h, in_w, channels;
    int16_t top, bottom, left, right;
    int16_t value;
} pad_t;

/* One input of a concatenation along the channels. */
typedef const FLASH struct {
    index_t positions;
    index_t channels;           /* of the input */
    index_t out_channels;       /* of the output */
} concat_t;

typedef const FLASH struct {
    const FLASH int32_t *exponential;   /* exp(-i * beta * scale) in Q0.31, i = 0 .. count - 1; zero beyond */
    index_t count;
    index_t rows;
    index_t classes;
} softmax_t;

typedef const FLASH struct {
    const FLASH int8_t *table;          /* output of the codes -128 .. 127 */
    index_t size;
} lookup_t;

/* A product; b has as many values as a, or one for each channel. */
typedef const FLASH struct {
    index_t size;
    index_t period;             /* values of b */
    int32_t multiplier;
    int16_t shift;
    int16_t offset_a, offset_b, out_offset;
    int16_t out_min, out_max;
} multiply_t;

/* Every value `down` times below and `right` times beside itself. */
typedef const FLASH struct {
    int16_t in_h, in_w, channels;
    int16_t down, right;
} enlarge_t;

/* Values below zero times a slope; one slope, or as many as the last dimensions have values. */
typedef const FLASH struct {
    const FLASH int8_t *slopes;
    index_t size;
    index_t period;             /* slopes */
    int32_t multiplier, multiplier_below;
    int16_t shift, shift_below;
    int16_t in_offset, slope_offset, out_offset;
} prelu_t;

/* Bilinear interpolation; distances and starts on the input are in units of 1/1024. */
typedef const FLASH struct {
    int32_t scale_h, scale_w;
    int16_t start_h, start_w;
    int16_t in_h, in_w, channels;
    int16_t out_h, out_w;
} bilinear_t;

/* Every `down`-th row from `top` on, and of it every `right`-th column from `left` on. */
typedef const FLASH struct {
    int16_t out_h, out_w, channels;
    int16_t in_w;
    int16_t top, left, down, right;
} slice_t;

/* Some of the channels, in an order of their own. */
typedef const FLASH struct {
    const FLASH int16_t *order;         /* (channels), of the input's channels */
    index_t positions;
    int16_t in_channels, channels;
} gather_t;

/* One type for all kernels of one input and one for those of two, so that a table can name them. The description is what
 * the kernel's own struct says of a layer. */
KERNEL void convolution(const FLASH void *description, const int8_t *input, int8_t *output);
KERNEL void pointwise(const FLASH void *description, const int8_t *input, int8_t *output);
KERNEL void narrow(const FLASH void *description, const int8_t *input, int8_t *output);
KERNEL void grouped(const FLASH void *description, const int8_t *input, int8_t *output);
KERNEL void transposed(const FLASH void *description, const int8_t *input, int8_t *output);
KERNEL void depthwise(const FLASH void *description, const int8_t *input, int8_t *output);
KERNEL void depthwise_multiplied(const FLASH void *description, const int8_t *input, int8_t *output);
KERNEL void max_pool(const FLASH void *description, const int8_t *input, int8_t *output);
KERNEL void average_pool(const FLASH void *description, const int8_t *input, int8_t *output);
KERNEL void mean(const FLASH void *description, const int8_t *input, int8_t *output);
KERNEL void add(const FLASH void *description, const int8_t *a, const int8_t *b, int8_t *output);
KERNEL void relu(const FLASH void *description, const int8_t *input, int8_t *output);
KERNEL void pad(const FLASH void *description, const int8_t *input, int8_t *output);
KERNEL void concat(const FLASH void *description, const int8_t *input, int8_t *output);
KERNEL void lookup(const FLASH void *description, const int8_t *input, int8_t *output);
KERNEL void multiply(const FLASH void *description, const int8_t *a, const int8_t *b, int8_t *output);
KERNEL void enlarge(const FLASH void *description, const int8_t *input, int8_t *output);
KERNEL void slice(const FLASH void *description, const int8_t *input, int8_t *output);
KERNEL void gather(const FLASH void *description, const int8_t *input, int8_t *output);
KERNEL void prelu(const FLASH void *description, const int8_t *input, int8_t *output);
KERNEL void bilinear(const FLASH void *description, const int8_t *input, int8_t *output);
KERNEL void softmax(const FLASH void *description, const int8_t *input, int8_t *output);

/* A call of a kernel: its layer's description, and where its tensors begin. */
struct step {
#if defined(MODEL_PROFILE)
    int32_t number;                     /* of the layer */
#endif
    union {
        void (*of_one)(const FLASH void *description, const int8_t *input, int8_t *output);
        void (*of_two)(const FLASH void *description, const int8_t *a, const int8_t *b, int8_t *output);
    } kernel;
    const FLASH void *layer;
    const int8_t *input, *second;       /* second: NULL for kernels of one input */
    int8_t *output;
};
typedef const FLASH struct step step_t;

typedef const FLASH struct {
    const step_t *steps;
    index_t count;
} program_t;

/* By how many bytes the tensors of a step move on from turn to turn. */
typedef const FLASH struct {
    index_t input, second, output;
} move_t;

typedef const FLASH struct {
    struct step step;
    const move_t *move;                 /* NULL if they stay */
} strip_step_t;

/* Steps that are repeated, for one strip of rows after the other. */
typedef const FLASH struct {
    const strip_step_t *steps;
    index_t count, turns;
} strips_t;

KERNEL void run_program(const program_t *program);

/* A kernel too, which its description tells all. */
KERNEL void strips(const FLASH void *description, const int8_t *input, int8_t *output);

#if defined(MODEL_PROFILE)
/* Called after every layer, by number; yours to define. */
void model_layer_done(int32_t layer);
#define LAYER(value) .number = (value),
#else
#define LAYER(value)
#endif

#endif
