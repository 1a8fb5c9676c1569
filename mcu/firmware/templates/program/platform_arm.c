/* A Cortex-M under an emulator or debugger: semihosting for text, SysTick as the clock. */
#include "platform.h"

#define SYSTICK ((volatile uint32_t *)0xE000E010U)
#define SYSTICK_RUN 5U              /* enabled, processor clock, no interrupt */
#define SYSTICK_WRAPPED 0x10000U
#define SYSTICK_MAXIMUM 0xFFFFFFU

#define SEMIHOSTING_WRITE 0x04
#define SEMIHOSTING_EXIT 0x20
#define APPLICATION_EXIT 0x20026U

#define PAINT 0xA5A5A5A5U
#define PAINT_MARGIN 64U            /* bytes below the caller's frame that painting itself may use */

extern uint32_t link_bss_end[], link_stack_top[];

static uint32_t clock_overflowed;

static int32_t semihosting(int32_t operation, const void *argument)
{
    register int32_t r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = argument;
    __asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void platform_print(const char *text)
{
    (void)semihosting(SEMIHOSTING_WRITE, text);
}

void platform_clock_start(void)
{
    SYSTICK[0] = 0U;
    SYSTICK[1] = SYSTICK_MAXIMUM;
    SYSTICK[2] = 0U;
    SYSTICK[0] = SYSTICK_RUN;
    while (SYSTICK[2] == 0U) { /* it reloads at the first tick */
    }
    (void)SYSTICK[0];          /* reading clears the wrap flag */
    clock_overflowed = 0U;
}

uint32_t platform_clock(void)
{
    const uint32_t now = SYSTICK[2];
    if ((SYSTICK[0] & SYSTICK_WRAPPED) != 0U) {
        clock_overflowed = 1U;
    }
    return (clock_overflowed != 0U) ? PLATFORM_CLOCK_OVERFLOW : ((SYSTICK_MAXIMUM - now) & SYSTICK_MAXIMUM);
}

__attribute__((noinline)) void platform_busy(uint32_t loops)
{
    uint32_t left = loops;
    __asm volatile(".syntax unified\n"
                   "1: subs %0, %0, #1\n"
                   "bne 1b" : "+l"(left) : : "cc");
}

__attribute__((noinline)) void platform_stack_paint(void)
{
    volatile uint32_t *word = link_bss_end;
    const uintptr_t end = (uintptr_t)__builtin_frame_address(0) - PAINT_MARGIN;
    while ((uintptr_t)word < end) {
        *word = PAINT;
        ++word;
    }
}

uint32_t platform_stack_used(void)
{
    const volatile uint32_t *word = link_bss_end;
    while (*word == PAINT) {
        ++word;
    }
    return (uint32_t)((uintptr_t)link_stack_top - (uintptr_t)word);
}

void fault_handler(void);

void fault_handler(void)
{
    platform_print("fault\n");
    platform_exit(2);
}

void platform_exit(int32_t status)
{
    const uint32_t block[2] = {APPLICATION_EXIT, (uint32_t)status};
    (void)semihosting(SEMIHOSTING_EXIT, block);
    for (;;) {
    }
}
