// The part of Transfer that asks no server: bytes that this machine has in another place.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <span>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include "fetch/blocking.h"
#include "fetch/transfer.h"

namespace hearth::fetch {
namespace {

constexpr std::uint64_t kCopyBytes = 4U << 20;  // between two looks at whether it is cancelled

std::optional<std::uint64_t> size_to_copy(std::string const& path) {
    std::error_code failed;
    if (path.empty() || !std::filesystem::is_regular_file(path, failed)) return std::nullopt;
    auto const size = std::filesystem::file_size(path, failed);
    return failed ? std::nullopt : std::optional<std::uint64_t>(size);
}

// A copy on its way, by one thread at a time.
class Copy {
public:
    Copy(std::string const& from, std::uint64_t size, std::uint64_t piece_bytes)
        : from_(from, std::ios::binary), size_(size), piece_(static_cast<std::size_t>(piece_bytes)) {}

    // Moves the next piece.
    Status step(PartialFile& to) {
        auto const count = static_cast<std::size_t>(std::min<std::uint64_t>(piece_.size(), size_ - done_));
        if (!from_.read(piece_.data(), static_cast<std::streamsize>(count)))
            return Error(Code::io, fmt::format("it cannot be read from byte {} on", done_));
        auto const bytes = std::as_bytes(std::span(piece_).first(count));
        HEARTH_CHECK(to.write(done_, bytes));
        to.begin_sync({done_, done_ + count});
        hash_.add(bytes);
        done_ += count;
        return ok();
    }

    [[nodiscard]] std::uint64_t done() const { return done_; }
    [[nodiscard]] std::string finish_hash() { return hash_.finish(); }

private:
    std::ifstream from_;
    std::uint64_t const size_;
    std::vector<char> piece_;
    std::uint64_t done_ = 0;
    digest::Sha256 hash_;
};

}  // namespace

net::Task<Result<bool>> Transfer::copy_held() {
    auto const found = size_to_copy(request_.held);
    if (!found || *found != request_.size.value_or(*found) || request_.sha256.empty()) co_return false;
    auto const size = *found;
    auto const begun = file_->load();
    if (begun && begun->sha256 == request_.sha256) co_return false;
    auto prepare = [this, size]() -> Status {
        HEARTH_CHECK(file_->clear());
        return file_->reserve(size);
    };
    auto going = co_await blocking(pool_, std::move(prepare));
    size_ = size;
    Copy copy(request_.held, size, std::clamp<std::uint64_t>(options_.piece_bytes, 1, kCopyBytes));
    while (going && copy.done() < size && !cancelled_) {
        auto step = [this, &copy] { return copy.step(*file_); };
        going = co_await blocking(pool_, std::move(step));
        landing_bytes_ = copy.done();
        report(Stage::fetching);
    }
    if (cancelled_) co_return Error(Code::cancelled, fmt::format("the copy to '{}' was cancelled", request_.path));
    // A wrong or unreadable one costs time: whatever is amiss here, the server is asked.
    if (!going || copy.finish_hash() != request_.sha256) co_return false;
    auto publish = [this, size] { return file_->publish(size); };
    auto const published = co_await blocking(pool_, std::move(publish));
    if (!published) co_return published.error();
    co_return true;
}

}  // namespace hearth::fetch
