/* Softmax in fixed point as gemmlowp computes it; the exponentials of the few possible differences are a table. */
#include "kernels.h"

#include "arithmetic.h"

#define SUM_INTEGER_BITS 12
#define OUTPUT_BITS 8

static int32_t shift_left_saturating(int32_t value, index_t bits)
{
    const int32_t limit = INT32_MAX >> bits;
    int32_t result = (int32_t)((uint32_t)value << (uint32_t)bits);
    if (value > limit) {
        result = INT32_MAX;
    } else if (value < (-limit - 1)) {
        result = INT32_MIN;
    } else {
        /* fits */
    }
    return result;
}

/* 1 / (1 + x) for x in [0, 1), both Q0.31: three Newton steps from 48/17 - 32/17 d, in Q2.29. */
static int32_t reciprocal_of_one_plus(int32_t x)
{
    const int32_t half_denominator = (int32_t)(((int64_t)x + INT32_MAX + 1) / 2);
    int32_t guess = 1515870810 + high_product(half_denominator, -1010580540);
    for (index_t step = 0; step < 3; ++step) {
        const int32_t error = ((int32_t)1 << 29) - high_product(half_denominator, guess);
        guess += shift_left_saturating(high_product(guess, error), 2);
    }
    return shift_left_saturating(guess, 1);
}

static index_t leading_zeros(uint32_t value)
{
    index_t zeros = 0;
    for (uint32_t rest = value; (rest & 0x80000000U) == 0U; rest <<= 1) {
        ++zeros;
    }
    return zeros;
}

static void softmax_row(const softmax_t *layer, const int8_t *input, int8_t *output)
{
    index_t largest = INT8_MIN;
    for (index_t i = 0; i < layer->classes; ++i) {
        largest = maximum(largest, input[i]);
    }
    int32_t sum = 0; /* Q12.19, at least the exponential of zero */
    for (index_t i = 0; i < layer->classes; ++i) {
        const index_t difference = largest - input[i];
        if (difference < layer->count) {
            sum += divide_by_power(layer->exponential[difference], SUM_INTEGER_BITS);
        }
    }
    const index_t headroom = leading_zeros((uint32_t)sum);
    const int32_t fraction = (int32_t)(((uint32_t)sum << (uint32_t)headroom) - 0x80000000U);
    const int32_t scale = reciprocal_of_one_plus(fraction);
    const index_t exponent = (SUM_INTEGER_BITS - headroom) + (31 - OUTPUT_BITS);
    for (index_t i = 0; i < layer->classes; ++i) {
        const index_t difference = largest - input[i];
        int32_t value = INT8_MIN;
        if (difference < layer->count) {
            value += divide_by_power(high_product(scale, layer->exponential[difference]), exponent);
        }
        output[i] = (int8_t)minimum((index_t)value, INT8_MAX);
    }
}

void softmax(const FLASH void *description, const int8_t *input, int8_t *output)
{
    const softmax_t *const layer = description;
    for (index_t row = 0; row < layer->rows; ++row) {
        softmax_row(layer, &input[row * layer->classes], &output[row * layer->classes]);
    }
}
