/* What an AVR calls, and other cores have inline. */
#define ARITHMETIC_C
#include "arithmetic.h"
