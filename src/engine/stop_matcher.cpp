#include "engine/stop_matcher.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/assert.h"

namespace hearth::engine {
namespace {

std::vector<std::uint16_t> make_failure(std::string_view text) {
    std::vector<std::uint16_t> failure(text.size(), 0);
    std::uint16_t matched = 0;
    for (std::size_t i = 1; i < text.size(); ++i) {
        while (matched > 0 && text[i] != text[matched]) matched = failure[matched - 1U];
        if (text[i] == text[matched]) ++matched;
        failure[i] = matched;
    }
    return failure;
}

}  // namespace

StopSet::StopSet(std::vector<std::string> strings) : strings_(std::move(strings)) {
    for (std::size_t i = 0; i < strings_.size(); ++i) {
        auto const& text = strings_[i];
        HEARTH_ASSERT(text.size() <= std::numeric_limits<std::uint16_t>::max(), "domain::kStopBytesMax is far below");
        if (text.empty()) continue;
        searched_.push_back({i, text, make_failure(text)});
        starts_[static_cast<std::uint8_t>(text[0])] = true;
    }
}

StopMatcher::StopMatcher(std::shared_ptr<StopSet const> set)
    : set_(std::move(set)), matched_(set_->searched_.size(), 0) {}

std::optional<std::size_t> StopMatcher::push(std::string_view bytes, std::string& out) {
    if (set_->empty()) {
        out += bytes;
        return std::nullopt;
    }
    std::size_t at = 0;
    while (at < bytes.size()) {
        if (held_.empty()) {  // nothing has begun: run to the next byte that begins something
            std::size_t next = at;
            while (next < bytes.size() && !set_->starts_[static_cast<std::uint8_t>(bytes[next])]) ++next;
            out += bytes.substr(at, next - at);
            at = next;
            if (at == bytes.size()) break;
        }
        held_.push_back(bytes[at]);
        if (auto const completed = advance(static_cast<std::uint8_t>(bytes[at]))) {
            auto const& pattern = set_->searched_[*completed];
            out += std::string_view(held_).substr(0, held_.size() - pattern.text.size());
            held_.clear();
            return pattern.index;
        }
        std::size_t const passed = held_.size() - longest_prefix();
        if (passed > 0) {
            out.append(held_, 0, passed);
            held_.erase(0, passed);
        }
        ++at;
    }
    return std::nullopt;
}

void StopMatcher::finish(std::string& out) {
    out += held_;
    held_.clear();
}

std::optional<std::size_t> StopMatcher::advance(std::uint8_t byte) {
    std::optional<std::size_t> completed;
    for (std::size_t i = 0; i < matched_.size(); ++i) {
        auto const& pattern = set_->searched_[i];
        std::uint16_t matched = matched_[i];
        while (matched > 0 && static_cast<std::uint8_t>(pattern.text[matched]) != byte)
            matched = pattern.failure[matched - 1U];
        if (static_cast<std::uint8_t>(pattern.text[matched]) == byte) ++matched;
        matched_[i] = matched;
        if (matched < pattern.text.size()) continue;
        if (!completed || pattern.text.size() > set_->searched_[*completed].text.size()) completed = i;
    }
    return completed;
}

std::size_t StopMatcher::longest_prefix() const { return *std::max_element(matched_.begin(), matched_.end()); }

}  // namespace hearth::engine
