#include "worker/submit_queue.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "base/assert.h"

namespace hearth::worker {
namespace {

std::uint64_t prompt_bytes(domain::GenerateRequest const& request) {
    struct Sum {
        std::uint64_t operator()(domain::ChatPrompt const& chat) const {
            std::uint64_t bytes = chat.jinja.size();
            for (auto const& message : chat.messages) bytes += message.role.size() + message.content.size();
            return bytes;
        }
        std::uint64_t operator()(domain::TextPrompt const& text) const { return text.text.size(); }
        std::uint64_t operator()(domain::TokenPrompt const& tokens) const {
            return tokens.tokens.size() * sizeof(domain::Token);
        }
        std::uint64_t operator()(domain::InfillPrompt const& infill) const {
            return infill.prefix.size() + infill.suffix.size();
        }
        std::uint64_t operator()(domain::EmbedPrompt const& embed) const {
            std::uint64_t bytes = 0;
            for (auto const& input : embed.inputs) bytes += domain::bytes_of(input);
            return bytes;
        }
    };
    return std::visit(Sum{}, request.prompt) + request.context.size() * sizeof(domain::Token);
}

}  // namespace

bool SubmitQueue::push(serving::SubmitFrame& frame) {
    {
        std::lock_guard const lock(mutex_);
        auto const bytes = prompt_bytes(frame.request);
        if (waiting_.size() >= requests_max_ || bytes > bytes_max_ - bytes_) return false;
        if (closed_) return true;
        bytes_ += bytes;
        waiting_.push_back(std::move(frame));
    }
    arrived_.notify_one();
    return true;
}

SubmitQueue::Cancelled SubmitQueue::cancel(RequestId id) {
    std::lock_guard const lock(mutex_);
    if (submitting_ == id) {
        cancelled_ = true;
        return {Cancel::noted, 0};
    }
    auto const found =
        std::find_if(waiting_.begin(), waiting_.end(), [id](auto const& frame) { return frame.id == id; });
    if (found == waiting_.end()) return {};
    Cancelled const result{Cancel::removed, found->request.choices};
    bytes_ -= prompt_bytes(found->request);
    waiting_.erase(found);
    return result;
}

void SubmitQueue::send(Errand errand) {
    {
        std::lock_guard const lock(mutex_);
        HEARTH_ASSERT(!errand_, "one errand at a time");
        errand_ = errand;
    }
    arrived_.notify_one();
}

std::optional<SubmitQueue::Work> SubmitQueue::take() {
    std::unique_lock lock(mutex_);
    arrived_.wait(lock, [this] { return closed_ || errand_ || !waiting_.empty(); });
    if (closed_) return std::nullopt;
    if (errand_) return *std::exchange(errand_, std::nullopt);
    auto frame = std::move(waiting_.front());
    waiting_.pop_front();
    bytes_ -= prompt_bytes(frame.request);
    submitting_ = frame.id;
    cancelled_ = false;
    return frame;
}

bool SubmitQueue::finish() {
    std::lock_guard const lock(mutex_);
    submitting_ = 0;
    return std::exchange(cancelled_, false);
}

void SubmitQueue::close() {
    {
        std::lock_guard const lock(mutex_);
        closed_ = true;
        waiting_.clear();
        bytes_ = 0;
    }
    arrived_.notify_all();
}

}  // namespace hearth::worker
