#include "llama/kernels_revision.h"

namespace hearth::llama {

std::string_view kernels_revision() { return HEARTH_KERNELS_REVISION; }

}  // namespace hearth::llama
