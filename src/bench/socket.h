// The few socket calls of the load generator, with errors as Result.
//
// Private to the module.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace hearth::bench {

// Owns a descriptor.
class Fd {
public:
    Fd() = default;
    explicit Fd(int fd) : fd_(fd) {}
    ~Fd() { reset(); }
    Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Fd& operator=(Fd&& other) noexcept {
        if (this != &other) {
            reset();
            fd_ = std::exchange(other.fd_, -1);
        }
        return *this;
    }
    void reset();
    [[nodiscard]] int get() const { return fd_; }
    [[nodiscard]] bool valid() const { return fd_ >= 0; }

private:
    int fd_ = -1;
};

struct Address {
    sockaddr_storage storage{};
    socklen_t size = 0;
};

[[nodiscard]] Result<Address> resolve(std::string const& host, std::uint16_t port);

// A non-blocking socket whose connection to `address` has begun.
[[nodiscard]] Result<Fd> begin_connect(Address const& address);

// Text for an errno value.
[[nodiscard]] std::string system_message(int error);

}  // namespace hearth::bench
