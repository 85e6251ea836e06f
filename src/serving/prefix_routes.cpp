#include "serving/prefix_routes.h"

#include <algorithm>
#include <functional>
#include <string_view>
#include <variant>

namespace hearth::serving {
namespace {

// Collects the numbers; each depends on all that was added before.
class Chain {
public:
    explicit Chain(domain::GenerateRequest const& request) {
        mix(request.tenant);
        mix(request.cache_salt);
        mix({reinterpret_cast<char const*>(&request.adapters), sizeof request.adapters});
        if (auto const* chat = std::get_if<domain::ChatPrompt>(&request.prompt)) mix(chat->jinja);
    }

    void message(domain::Message const& message) {
        if (!take(message.content.size())) return;
        mix(message.role);
        mix(message.content);
        end();
    }

    // Whole blocks alone: what follows the last one is not there next time, or longer.
    void text(std::string_view text) {
        for (; text.size() >= kRouteBlock && take(kRouteBlock); text.remove_prefix(kRouteBlock)) {
            mix(text.substr(0, kRouteBlock));
            end();
        }
    }

    void tokens(std::span<domain::Token const> tokens) {
        text({reinterpret_cast<char const*>(tokens.data()), tokens.size_bytes()});
    }

    std::vector<std::uint64_t> finish() && {
        if (out_.size() > kBeginningsMax) out_.erase(out_.begin(), out_.end() - kBeginningsMax);
        return std::move(out_);
    }

private:
    bool take(std::size_t bytes) {
        if (bytes > left_) left_ = 0;
        else left_ -= bytes;
        return left_ > 0;
    }
    void mix(std::string_view bytes) {
        auto x = state_ ^ std::hash<std::string_view>()(bytes);
        x ^= x >> 32U;
        x *= 0xd6e8feb86659fd93U;
        x ^= x >> 32U;
        state_ = x + bytes.size();
    }
    void end() { out_.push_back(state_); }

    std::uint64_t state_ = 0x9e3779b97f4a7c15U;
    std::size_t left_ = kRouteBytesMax;
    std::vector<std::uint64_t> out_;
};

}  // namespace

std::vector<std::uint64_t> beginnings_of(domain::GenerateRequest const& request) {
    Chain chain(request);
    chain.tokens(request.context);
    if (auto const* chat = std::get_if<domain::ChatPrompt>(&request.prompt)) {
        for (auto const& message : chat->messages) chain.message(message);
    } else if (auto const* text = std::get_if<domain::TextPrompt>(&request.prompt)) {
        chain.text(text->text);
    } else if (auto const* tokens = std::get_if<domain::TokenPrompt>(&request.prompt)) {
        chain.tokens(tokens->tokens);
    } else if (auto const* infill = std::get_if<domain::InfillPrompt>(&request.prompt)) {
        chain.text(infill->prefix);
    }
    return std::move(chain).finish();
}

std::optional<PrefixRoutes::Found> PrefixRoutes::find(std::span<std::uint64_t const> beginnings) const {
    for (auto count = beginnings.size(); count > 0; --count) {
        for (auto const* routes : {&young_, &old_}) {
            auto const found = routes->find(beginnings[count - 1]);
            if (found != routes->end()) return Found{found->second, count};
        }
    }
    return std::nullopt;
}

void PrefixRoutes::note(std::span<std::uint64_t const> beginnings, std::uint32_t worker) {
    for (auto const beginning : beginnings) young_.insert_or_assign(beginning, worker);
    if (young_.size() < kRoutesMax / 2) return;
    old_ = std::move(young_);
    young_.clear();
}

}  // namespace hearth::serving
