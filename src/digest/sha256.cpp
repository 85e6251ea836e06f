#include "digest/sha256.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/assert.h"

namespace hearth::digest {
namespace {

constexpr std::size_t kDigestBytes = 32;

struct Descriptor {
    int fd;
    ~Descriptor() {
        if (fd >= 0) ::close(fd);
    }
};

}  // namespace

struct Sha256::State {
    EVP_MD_CTX* context = EVP_MD_CTX_new();
};

Sha256::Sha256() : state_(std::make_unique<State>()) { restart(); }
Sha256::~Sha256() { EVP_MD_CTX_free(state_->context); }

void Sha256::restart() {
    HEARTH_ASSERT(EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr) == 1, "OpenSSL has SHA-256");
}

void Sha256::add(std::span<std::byte const> bytes) {
    HEARTH_ASSERT(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1, "a running hash");
}

std::string Sha256::finish() {
    std::array<unsigned char, kDigestBytes> digest{};
    HEARTH_ASSERT(EVP_DigestFinal_ex(state_->context, digest.data(), nullptr) == 1, "a running hash");
    restart();
    return fmt::format("{:02x}", fmt::join(digest, ""));
}

std::string sha256_hex(std::string_view data) {
    Sha256 hash;
    hash.add(std::as_bytes(std::span(data)));
    return hash.finish();
}

Result<std::string> sha256_of_file(std::string const& path, std::function<bool()> const& stop) {
    Descriptor const file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    auto const failed = [&](std::string_view step) {
        return Error(errno == ENOENT ? Code::not_found : Code::io,
                     fmt::format("cannot {} '{}': {}", step, path, std::strerror(errno)), path);
    };
    if (file.fd < 0) return failed("open");
    ::posix_fadvise(file.fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    Sha256 hash;
    std::vector<std::byte> buffer(kFilePieceBytes);
    for (;;) {
        if (stop && stop()) return Error(Code::cancelled, fmt::format("checking '{}' was stopped", path), path);
        auto const count = ::read(file.fd, buffer.data(), buffer.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return failed("read");
        if (count == 0) return hash.finish();
        hash.add(std::span(buffer).first(static_cast<std::size_t>(count)));
    }
}

bool is_sha256(std::string_view text) {
    auto const digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
    return text.size() == 2 * kDigestBytes && std::ranges::all_of(text, digit);
}

}  // namespace hearth::digest
