/* The loop of the pointwise kernel for the vector extension: sixteen products an instruction, four channels at a time.
 * The last four start early enough to be whole. */
#ifndef POINTWISE_MVE_H
#define POINTWISE_MVE_H

OUTLINE void pointwise_single(const convolution_t *layer, const int8_t *input, int8_t *output)
{
    const finish_t rule = finish_of(layer);
    const int32_t size = layer->in_c, channels = layer->out_c;
    const int32_t blocks = size / 16;
    const mve_pred16_t rest = vctp8q((uint32_t)(size % 16));
    for (int32_t channel = 0; channel < channels; channel += 4) {
        const int32_t start = minimum(channel, channels - 4);
        const int8_t *x = input, *w0 = &layer->weights[start * size], *w1 = &w0[size], *w2 = &w1[size], *w3 = &w2[size];
        int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
        for (int32_t block = blocks; block > 0; --block) {
            const int8x16_t a = vldrbq_s8(x);
            s0 = vmladavaq_s8(s0, a, vldrbq_s8(w0));
            s1 = vmladavaq_s8(s1, a, vldrbq_s8(w1));
            s2 = vmladavaq_s8(s2, a, vldrbq_s8(w2));
            s3 = vmladavaq_s8(s3, a, vldrbq_s8(w3));
            x += 16;
            w0 += 16;
            w1 += 16;
            w2 += 16;
            w3 += 16;
        }
        if ((size % 16) != 0) {
            const int8x16_t a = vldrbq_z_s8(x, rest);
            s0 = vmladavaq_s8(s0, a, vldrbq_z_s8(w0, rest));
            s1 = vmladavaq_s8(s1, a, vldrbq_z_s8(w1, rest));
            s2 = vmladavaq_s8(s2, a, vldrbq_z_s8(w2, rest));
            s3 = vmladavaq_s8(s3, a, vldrbq_z_s8(w3, rest));
        }
        const int32x4_t sum = {s0, s1, s2, s3};
        finish_vector(&rule, start, vaddq_s32(sum, vldrwq_s32(&layer->bias[start])), &output[start]);
    }
}

#endif
