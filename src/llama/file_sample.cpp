#include "llama/file_sample.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "llama/state_blob.h"

namespace hearth::llama {
namespace {

// Folds the file's bytes at `offset` into `sum`.
bool fold(int fd, std::uint64_t offset, std::uint64_t bytes, std::string& buffer, std::uint64_t& sum) {
    buffer.resize(sizeof sum + bytes);
    std::memcpy(buffer.data(), &sum, sizeof sum);
    for (std::uint64_t done = 0; done < bytes;) {
        auto const count =
            ::pread(fd, buffer.data() + sizeof sum + done, bytes - done, static_cast<off_t>(offset + done));
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return false;
        done += static_cast<std::uint64_t>(count);
    }
    sum = state_fingerprint(buffer);
    return true;
}

}  // namespace

Result<std::uint64_t> sample_file(std::string const& path) {
    int const fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat info{};
    bool good = fd >= 0 && ::fstat(fd, &info) == 0;
    auto const size = static_cast<std::uint64_t>(info.st_size);
    std::uint64_t sum = size;
    std::string buffer;
    std::uint64_t const stride = std::max(kSampleStrideMin, size / kSampleBlocksMax);
    std::uint64_t at = std::min(size, kSampleHeadBytes);
    good = good && fold(fd, 0, at, buffer, sum);
    for (; good && at < size; at += stride) good = fold(fd, at, std::min(kSampleBlockBytes, size - at), buffer, sum);
    // The last block: where a tensor appended behind the others would be.
    std::uint64_t const tail = std::min(size, kSampleBlockBytes);
    good = good && fold(fd, size - tail, tail, buffer, sum);
    int const why = errno;
    if (fd >= 0) ::close(fd);
    if (!good) return Error(Code::io, fmt::format("cannot read {}: {}", path, std::strerror(why)), "path");
    return sum;
}

}  // namespace hearth::llama
