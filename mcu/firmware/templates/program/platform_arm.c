/* A Cortex-M under an emulator or debugger: the semihosting call, SysTick as the clock. */
#include "platform.h"

#define SYSTICK ((volatile uint32_t *)0xE000E010U)
#define SYSTICK_RUN 5U              /* enabled, processor clock, no interrupt */
#define SYSTICK_WRAPPED 0x10000U
#define SYSTICK_MAXIMUM 0xFFFFFFU

static uint32_t clock_overflowed;

int32_t platform_semihosting(int32_t operation, const void *argument)
{
    register int32_t r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = argument;
    __asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
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
