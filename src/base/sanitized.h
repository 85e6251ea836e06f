// Whether AddressSanitizer or ThreadSanitizer watches this build: code is then
// up to twenty times as slow and freed memory is kept back. For tests, which
// choose their sizes by it; what Hearth does never depends on it.
#pragma once

namespace hearth {

#if defined(__has_feature)
  #if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool kSanitized = true;
  #else
inline constexpr bool kSanitized = false;
  #endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace hearth
