#include "library/uploads.h"

#include <functional>
#include <utility>

#include <fmt/format.h>

#include "library/work_thread.h"

namespace hearth::library {

// What an Upload needs, which may be there still when the library has gone.
struct UploadsState {
    WorkThread* thread = nullptr;  // null when that is the case
    std::size_t running = 0;       // and those that begin
};

namespace {

template <typename T>
net::Task<Result<T>> on_thread(net::Loop& loop, UploadsState& state, std::function<Result<T>()> work) {
    auto const post = [&state](std::function<void()> task) -> Status {
        if (state.thread == nullptr) return Error(Code::unavailable, "the server is shutting down");
        return state.thread->post(std::move(task));
    };
    co_return co_await ask<T>(loop, post, std::move(work));
}

}  // namespace

Uploads::Upload::~Upload() {
    --state_->running;
    if (state_->thread == nullptr) return;
    // A large file that is given up takes a while to be removed.
    static_cast<void>(state_->thread->post([file = std::move(file_)]() mutable { file.reset(); }));
}

net::Task<Status> Uploads::Upload::append(std::string bytes) {
    auto work = [file = file_, bytes = std::move(bytes)] { return file->append(bytes); };
    return on_thread<std::monostate>(loop_, *state_, std::move(work));
}

net::Task<Status> Uploads::Upload::finish() {
    auto work = [file = file_] { return file->finish(); };
    return on_thread<std::monostate>(loop_, *state_, std::move(work));
}

Uploads::Uploads(net::Loop& loop, WorkThread& thread, BlobStore const& store, IsKnown is_known)
    : loop_(loop), store_(store), is_known_(std::move(is_known)), state_(std::make_shared<UploadsState>(&thread)) {}

Uploads::~Uploads() { state_->thread = nullptr; }

net::Task<Result<bool>> Uploads::has(std::string digest) {
    auto const hex = parse_digest(digest);
    if (!hex) co_return hex.error();
    if (is_known_ && is_known_(*hex)) co_return true;
    auto work = [&store = store_, hex = *hex]() -> Result<bool> { return store.has(hex); };
    co_return co_await on_thread<bool>(loop_, *state_, std::move(work));
}

net::Task<Result<std::unique_ptr<Uploads::Upload>>> Uploads::begin(std::string digest,
                                                                   std::optional<std::uint64_t> bytes) {
    auto const hex = parse_digest(digest);
    if (!hex) co_return hex.error();
    if (is_known_ && is_known_(*hex)) co_return std::unique_ptr<Upload>();
    auto const state = state_;
    if (state->running >= kUploadsMax)
        co_return Error(Code::overloaded,
                        fmt::format("{} files are uploaded at the moment, which is the limit", state->running));
    using Begun = std::shared_ptr<BlobUpload>;
    auto work = [&store = store_, hex = *hex, bytes]() -> Result<Begun> {
        HEARTH_TRY(auto begun, store.begin(hex, bytes));
        return Begun(std::move(begun));
    };
    ++state->running;
    auto begun = co_await on_thread<Begun>(loop_, *state, std::move(work));
    if (!begun || !*begun) --state->running;
    if (!begun) co_return begun.error();
    if (!*begun) co_return std::unique_ptr<Upload>();
    // NOLINTNEXTLINE(modernize-make-unique): private
    co_return std::unique_ptr<Upload>(new Upload(loop_, state, *std::move(begun)));
}

}  // namespace hearth::library
