// Which kernels of ours these are: another text after every edit of their sources.
//
// Threads: any. Private to the module.
#pragma once

#include <string_view>

namespace hearth::llama {

// SHA-256 of what lies in kernels/, as the build saw it (CMakeLists.txt): 64 digits. With another one
// what a model computes may have other bits.
[[nodiscard]] std::string_view kernels_revision();

}  // namespace hearth::llama
