#include "llama/content_hash.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include <fmt/format.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace hearth::llama {
namespace {

constexpr std::size_t kPieceBytes = 64U << 10;  // on the stack: no heap of the thread is left behind

}  // namespace

Result<std::string> hash_file(std::string const& path, std::atomic<bool> const* stop) {
    int const fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return Error(Code::io, fmt::format("cannot read {}: {}", path, std::strerror(errno)), "path");
    std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> const state(XXH3_createState(), &XXH3_freeState);
    XXH3_128bits_reset(state.get());
    std::array<char, kPieceBytes> piece;
    ssize_t count = 0;
    do {
        if (stop != nullptr && stop->load(std::memory_order_relaxed)) {
            ::close(fd);
            return Error(Code::cancelled, fmt::format("hashing {} was stopped", path));
        }
        count = ::read(fd, piece.data(), piece.size());
        if (count > 0) XXH3_128bits_update(state.get(), piece.data(), static_cast<std::size_t>(count));
    } while (count > 0 || (count < 0 && errno == EINTR));
    int const why = errno;
    ::close(fd);
    if (count < 0) return Error(Code::io, fmt::format("cannot read {}: {}", path, std::strerror(why)), "path");
    auto const sum = XXH3_128bits_digest(state.get());
    return fmt::format("{:016x}{:016x}", sum.high64, sum.low64);
}

ContentHash::ContentHash(std::vector<std::string> paths)
    : paths_(std::move(paths)), thread_([this] {
          std::string hashes;
          for (auto const& path : paths_) {
              auto const hash = hash_file(path, &stop_);
              if (!hash) return;
              hashes += " " + *hash;
          }
          hashes_ = std::move(hashes);
      }) {}

ContentHash::~ContentHash() {
    stop_.store(true, std::memory_order_relaxed);
    if (thread_.joinable()) thread_.join();
}

std::string ContentHash::take() {
    thread_.join();
    return std::move(hashes_);
}

}  // namespace hearth::llama
