// Descriptor: an open file, closed at the end of its scope.
#pragma once

#include <unistd.h>

namespace hearth::models {

class Descriptor {
public:
    explicit Descriptor(int fd) : fd_(fd) {}
    Descriptor(Descriptor const&) = delete;
    Descriptor& operator=(Descriptor const&) = delete;
    ~Descriptor() {
        if (fd_ >= 0) ::close(fd_);
    }
    [[nodiscard]] int get() const { return fd_; }  // negative if it could not be opened

private:
    int const fd_;
};

}  // namespace hearth::models
