#include "catalog/file_hash.h"

#include <fcntl.h>
#include <sodium.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include <fmt/format.h>

namespace hearth::catalog {
namespace {

constexpr std::size_t kPiece = 4U << 20;

struct Descriptor {
    int fd;
    ~Descriptor() {
        if (fd >= 0) ::close(fd);
    }
};

}  // namespace

Result<std::string> sha256_of_file(std::string const& path, std::function<bool()> const& stop) {
    Descriptor const file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    auto const failed = [&](std::string_view step) {
        return Error(errno == ENOENT ? Code::not_found : Code::io,
                     fmt::format("cannot {} '{}': {}", step, path, std::strerror(errno)), path);
    };
    if (file.fd < 0) return failed("open");
    ::posix_fadvise(file.fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    crypto_hash_sha256_state state;
    crypto_hash_sha256_init(&state);
    std::vector<unsigned char> piece(kPiece);
    while (true) {
        if (stop && stop()) return Error(Code::cancelled, fmt::format("checking '{}' was stopped", path), path);
        auto const count = ::read(file.fd, piece.data(), piece.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return failed("read");
        if (count == 0) break;
        crypto_hash_sha256_update(&state, piece.data(), static_cast<unsigned long long>(count));
    }
    std::array<unsigned char, crypto_hash_sha256_BYTES> digest{};
    crypto_hash_sha256_final(&state, digest.data());
    std::string hex;
    for (auto const byte : digest) hex += fmt::format("{:02x}", byte);
    return hex;
}

}  // namespace hearth::catalog
