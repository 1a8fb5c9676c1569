/* A RISC-V core under an emulator or debugger: the semihosting call, the counter of instructions as the clock. */
#include "platform.h"

#define LARGEST 0x7FFFFFFFU

static uint64_t clock_start;

int32_t platform_semihosting(int32_t operation, const void *argument)
{
    register int32_t a0 __asm("a0") = operation;
    register const void *a1 __asm("a1") = argument;
    __asm volatile(".option push\n"
                   ".option norvc\n"
                   ".balign 16\n" /* the three are one call only within a page */
                   "slli zero, zero, 0x1f\n"
                   "ebreak\n"
                   "srai zero, zero, 7\n"
                   ".option pop" : "+r"(a0) : "r"(a1) : "memory");
    return a0;
}

static uint64_t instructions(void)
{
    uint32_t low, high, again;
    do {
        __asm volatile(".option push\n"
                       ".option arch, +zicsr\n"
                       "csrr %0, minstreth\n"
                       "csrr %1, minstret\n"
                       "csrr %2, minstreth\n"
                       ".option pop" : "=r"(high), "=&r"(low), "=&r"(again));
    } while (high != again);
    return ((uint64_t)high << 32) | low;
}

void platform_clock_start(void)
{
    clock_start = instructions();
}

uint32_t platform_clock(void)
{
    const uint64_t ticks = instructions() - clock_start;
    return (ticks > LARGEST) ? PLATFORM_CLOCK_OVERFLOW : (uint32_t)ticks;
}

__attribute__((noinline)) void platform_busy(uint32_t loops)
{
    uint32_t left = loops;
    __asm volatile("1: addi %0, %0, -1\n"
                   "bnez %0, 1b" : "+r"(left));
}
