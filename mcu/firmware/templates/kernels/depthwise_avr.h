/* The inner loops of the depthwise convolution on an AVR: one channel at a time. */
#ifndef DEPTHWISE_AVR_H
#define DEPTHWISE_AVR_H

#include "products_avr.h"

/* All channels at one position. */
OUTLINE void all_channels(const convolution_t *layer, const window_t *window, int8_t *output)
{
    const finish_t rule = finish_of(layer);
    const index_t channels = layer->out_c;
    const index_t x_row = (window->runs * window->input_run) + window->input_band;
    const index_t w_row = (window->runs * window->weight_run) + window->weight_band;
    for (index_t channel = 0; channel < channels; ++channel) {
        int32_t sum = layer->bias[channel];
        const int8_t *x = &window->input[channel];
        const FLASH int8_t *w = &layer->weights[window->weight + channel];
        for (index_t band = window->bands; band > 0; --band) {
            sum = add_run(sum, x, w, window->runs, window->input_run, window->weight_run, window->offset);
            x += x_row;
            w += w_row;
        }
        output[channel] = finish(&rule, channel, sum);
    }
}

#endif
