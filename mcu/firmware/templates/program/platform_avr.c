/* An AVR in simavr: its console register for text, timer 1 as the clock, the painted stack. */
#include "platform.h"

#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/sleep.h>

#define LARGEST 0x7FFFFFFFU

/* Tells simavr which register prints; each line ends with a carriage return. */
#define TAG_CONSOLE 11U
__attribute__((section(".mmcu"), used)) static const struct __attribute__((packed)) {
    uint8_t tag, size;
    uint16_t address;
} console = {TAG_CONSOLE, 2U, (uint16_t)&GPIOR0};

#define NO_ROOM 0xFFFFFFFFU /* the stack reaches the static data */
#define PAINT 0xA5U
#define PAINT_MARGIN 16U /* bytes below the caller's frame that painting itself may use */

extern uint8_t link_bss_end[], __stack[];

static volatile uint16_t clock_high;

/* The overflow of timer 1 on an ATmega328P, and on the larger parts that stand in for it or have a core of their own. */
ISR(_VECTOR(13))
{
    ++clock_high;
}
ISR(_VECTOR(15), ISR_ALIASOF(_VECTOR(13)));
ISR(_VECTOR(20), ISR_ALIASOF(_VECTOR(13)));

void platform_print(const char *text)
{
    for (const char *next = text; *next != '\0'; ++next) {
        GPIOR0 = (*next == '\n') ? (uint8_t)'\r' : (uint8_t)*next;
    }
}

void platform_clock_start(void)
{
    cli();
    TCCR1A = 0U;
    TCCR1B = (uint8_t)(1U << CS10); /* counts cycles */
    TCNT1 = 0U;
    TIFR1 = (uint8_t)(1U << TOV1);
    TIMSK1 = (uint8_t)(1U << TOIE1);
    clock_high = 0U;
    sei();
}

uint32_t platform_clock(void)
{
    cli();
    const uint16_t low = TCNT1;
    const uint16_t high = clock_high + ((((TIFR1 & (1U << TOV1)) != 0U) && (low < 0x8000U)) ? 1U : 0U);
    sei();
    const uint32_t ticks = ((uint32_t)high << 16) | low;
    return (ticks > LARGEST) ? PLATFORM_CLOCK_OVERFLOW : ticks;
}

/* Eight cycles for four loops. */
__attribute__((noinline)) void platform_busy(uint32_t loops)
{
    uint32_t left = loops >> 2;
    __asm volatile("1: subi %A0, 1\n\t"
                   "sbci %B0, 0\n\t"
                   "sbci %C0, 0\n\t"
                   "sbci %D0, 0\n\t"
                   "nop\n\t"
                   "nop\n\t"
                   "brne 1b" : "+d"(left));
}

__attribute__((noinline)) void platform_stack_paint(void)
{
    uint8_t *const end = (uint8_t *)(SP - PAINT_MARGIN);
    for (uint8_t *byte = link_bss_end; byte < end; ++byte) {
        *byte = PAINT;
    }
}

uint32_t platform_stack_used(void)
{
    const uint8_t *byte = link_bss_end;
    while (*byte == PAINT) {
        ++byte;
    }
    return (byte == link_bss_end) ? NO_ROOM : (uint32_t)(((uintptr_t)__stack - (uintptr_t)byte) + 1U);
}

ISR(BADISR_vect)
{
    platform_print("fault\n");
    platform_exit(2);
}

void platform_exit(int32_t status)
{
    (void)status;
    cli();
    for (;;) {
        sleep_mode(); /* with interrupts off: the end of a simulation */
    }
}
