#include "engine/draft_model.h"

#include <algorithm>
#include <string>

#include <fmt/format.h>

#include "base/assert.h"
#include "engine/logits_scan.h"

namespace hearth::engine {
namespace {

// As upstream has it: models of one family pad their vocabularies to different
// sizes, and name their first few control tokens differently.
constexpr std::uint32_t kSizeDifferenceMax = 128;
constexpr Token kFirstCompared = 5;

// Less than so much of a text in common is not worth a copy.
constexpr std::size_t kCopyTokensMin = 8;

std::string spelling(llama::Backend const& backend, Token token) {
    std::string text;
    backend.append_spelling(token, text);
    return text;
}

std::string quoted(std::string const& text) {
    constexpr std::size_t kShown = 40;
    return fmt::format("'{}'", text.substr(0, kShown));
}

Error differs(std::string what) {
    return {Code::unsupported, fmt::format("their vocabularies differ: {}", std::move(what))};
}

Status check_tokens(llama::Backend const& target, llama::Backend const& draft) {
    auto const sizes = std::minmax(target.properties().vocabulary, draft.properties().vocabulary);
    if (sizes.second - sizes.first > kSizeDifferenceMax) {
        return differs(fmt::format("{} and {} tokens, at most {} more or less are allowed",
                                   target.properties().vocabulary, draft.properties().vocabulary, kSizeDifferenceMax));
    }
    for (Token token = 0; token < static_cast<Token>(sizes.first); ++token) {
        if (target.is_end_of_generation(token) != draft.is_end_of_generation(token))
            return differs(fmt::format("token {} ends an answer in one of them only", token));
        if (token < kFirstCompared) continue;
        auto const here = spelling(target, token);
        auto const there = spelling(draft, token);
        if (here != there) return differs(fmt::format("token {} is {} and {}", token, quoted(here), quoted(there)));
    }
    return ok();
}

// What each puts around a prompt: BOS and EOS.
Status check_edges(llama::Backend const& target, llama::Backend const& draft) {
    HEARTH_TRY(auto const here, target.tokenize("", {.add_special = true}));
    HEARTH_TRY(auto const there, draft.tokenize("", {.add_special = true}));
    if (here != there)
        return differs(fmt::format("they put the tokens [{}] and [{}] around a prompt", fmt::join(here, ", "),
                                   fmt::join(there, ", ")));
    return ok();
}

}  // namespace

sched::CostModel::Weights first_guess(domain::ModelInfo const& info) {
    constexpr double kOperationsPerThread = 40e9;  // a second, of quantised kernels on a current core
    double const operations = 2 * static_cast<double>(std::max<std::uint64_t>(info.parameters, 1 << 20));
    double const token_ms = 1000 * operations / (kOperationsPerThread * std::max(info.threads, 1U));
    // One more row reads no more weights: a quarter of a step, so that guesses are tried.
    return {.base = 3 * token_ms, .per_decode = token_ms, .per_prompt = token_ms, .per_attended = token_ms / 10};
}

Status DraftModel::check(llama::Backend const& target, llama::Backend const& draft) {
    auto const goes_back = [](llama::Backend const& backend, std::string_view which) -> Status {
        if (backend.properties().can_truncate) return ok();
        return Error(Code::unsupported,
                     fmt::format("the {} ({}) cannot take back guesses that were wrong: it keeps one state for its "
                                 "whole past",
                                 which, backend.properties().info.architecture));
    };
    HEARTH_CHECK(goes_back(target, "model"));
    HEARTH_CHECK(goes_back(draft, "draft model"));
    HEARTH_CHECK(check_tokens(target, draft));
    return check_edges(target, draft);
}

DraftModel::DraftModel(llama::Backend& backend, std::uint32_t target_vocabulary, Clock const& clock)
    : backend_(backend),
      clock_(clock),
      vocabulary_(std::min(target_vocabulary, backend.properties().vocabulary)),
      lacks_tokens_(backend.properties().vocabulary < target_vocabulary),
      cost_(first_guess(backend.properties().info)),
      sequences_(backend.properties().sequences_max) {}

bool DraftModel::can_hold(std::span<Token const> text, std::uint32_t depth) const {
    auto const& properties = backend_.properties();
    if (text.size() + depth > std::min(properties.info.context_request, properties.kv_cells)) return false;
    return !lacks_tokens_ || std::all_of(text.begin(), text.end(),
                                         [this](Token token) { return static_cast<std::size_t>(token) < vocabulary_; });
}

// Tokens of the text that are in the cache.
std::size_t DraftModel::agreement(Slot slot, std::span<Token const> text) const {
    auto const& tokens = at(slot).tokens;
    auto const most = std::min(tokens.size(), text.size());
    auto const parted = std::mismatch(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(most), text.begin());
    return static_cast<std::size_t>(parted.first - tokens.begin());
}

DraftModel::Slot DraftModel::take(std::span<Token const> text) {
    Slot best = kNone;
    std::size_t common = 0;
    for (Slot slot = 0; slot < static_cast<Slot>(sequences_.size()); ++slot) {
        auto const agrees = agreement(slot, text);
        bool const better = agrees > common || (agrees == common && best != kNone && at(best).held && !at(slot).held);
        if (agrees > 0 && better) {
            best = slot;
            common = agrees;
        }
    }
    // What a slot has beyond the text would be lost: if that is much, it is copied.
    bool const whole = best != kNone && !at(best).held && 2 * common >= at(best).tokens.size();
    Slot slot = whole ? best : oldest_free(best);
    if (slot == kNone && best != kNone && !at(best).held) slot = best;
    if (slot == kNone) return kNone;
    at(slot).held = true;
    at(slot).used = ++calls_;
    if (slot == best) return slot;
    empty(slot);
    if (common < kCopyTokensMin || !backend_.properties().can_share_cells) return slot;
    if (backend_.copy_sequence(best, slot, static_cast<llama::Position>(common), {}))
        at(slot).tokens.assign(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(common));
    else empty(slot);
    return slot;
}

void DraftModel::give_back(Slot slot) {
    if (slot == kNone) return;
    HEARTH_ASSERT(at(slot).held, "a slot is given back once");
    at(slot).held = false;
    at(slot).used = ++calls_;
}

// The slot nobody holds that is empty, or was unused longest.
DraftModel::Slot DraftModel::oldest_free(Slot except) const {
    Slot found = kNone;
    auto const order = [this](Slot slot) { return std::pair(!at(slot).tokens.empty(), at(slot).used); };
    for (Slot slot = 0; slot < static_cast<Slot>(sequences_.size()); ++slot) {
        if (at(slot).held || slot == except) continue;
        if (found == kNone || order(slot) < order(found)) found = slot;
    }
    return found;
}

std::uint32_t DraftModel::behind(Slot slot, std::span<Token const> text) const {
    std::size_t common = 0;
    if (slot != kNone) {
        common = agreement(slot, text);
    } else {
        for (Slot other = 0; other < static_cast<Slot>(sequences_.size()); ++other)
            common = std::max(common, agreement(other, text));
    }
    return static_cast<std::uint32_t>(text.size() - std::min(common, text.size() - 1));
}

void DraftModel::empty(Slot slot) {
    at(slot).tokens.clear();
    auto const emptied = backend_.remove(slot, 0);
    HEARTH_ASSERT(emptied.has_value(), "every sequence can be emptied");
}

// Removes what is not the text's, and its last token: that one is computed again,
// for its logits. Returns what is left.
std::size_t DraftModel::cut(Slot slot, std::span<Token const> text) {
    auto& tokens = at(slot).tokens;
    auto const keep = std::min(agreement(slot, text), text.size() - 1);
    if (keep == tokens.size()) return keep;
    if (keep == 0 || !backend_.remove(slot, static_cast<llama::Position>(keep))) {
        empty(slot);
        return 0;
    }
    tokens.resize(keep);
    return keep;
}

// Of those nobody holds; false when there is none.
bool DraftModel::empty_oldest() {
    Slot oldest = kNone;
    for (Slot slot = 0; slot < static_cast<Slot>(sequences_.size()); ++slot) {
        if (at(slot).held || at(slot).tokens.empty()) continue;
        if (oldest == kNone || at(slot).used < at(oldest).used) oldest = slot;
    }
    if (oldest != kNone) empty(oldest);
    return oldest != kNone;
}

// Nobody's cells are taken when they lack. Of a batch that fails nothing is in the cache.
bool DraftModel::compute(sched::StepShape const& shape) {
    Instant const begin = clock_.now();
    Status decoded = backend_.decode(batch_);
    while (!decoded && decoded.error().code == Code::overloaded && empty_oldest()) decoded = backend_.decode(batch_);
    double const ms = to_ms(clock_.now() - begin);
    spent_ms_ += ms;
    if (!decoded) {
        failures_ += decoded.error().code == Code::overloaded ? 0 : 1;
        return false;
    }
    failures_ = 0;
    measured_ = true;
    cost_.observe(shape, ms);
    for (auto const& entry : batch_) at(entry.sequence).tokens.push_back(entry.token);
    return true;
}

bool DraftModel::catch_up(Slot slot, std::span<Token const> text, std::uint32_t most) {
    at(slot).used = ++calls_;
    std::size_t const begin = cut(slot, text);
    auto const left = static_cast<std::uint32_t>(text.size() - 1 - begin);
    auto const count = std::min({left, most, backend_.properties().batch_max});
    if (count == 0) return true;
    batch_.clear();
    for (std::size_t i = begin; i < begin + count; ++i)
        batch_.push_back({text[i], static_cast<llama::Position>(i), slot, false});
    sched::StepShape shape;
    shape.add_prompt(count, static_cast<std::uint32_t>(begin));
    return compute(shape);
}

void DraftModel::guess(std::span<Wish> wishes) {
    going_.assign(wishes.size(), true);
    std::uint32_t passes = 0;
    for (auto& wish : wishes) {
        wish.guesses.clear();
        passes = std::max(passes, wish.depth);
    }
    for (std::uint32_t pass = 0; pass < passes; ++pass) {
        plan_pass(wishes, pass);
        if (batch_.empty()) return;
        sched::StepShape shape;
        std::size_t begin = 0;
        for (auto const& part : parts_) {
            auto const first = static_cast<std::uint32_t>(batch_[begin].position);
            auto const count = static_cast<std::uint32_t>(part.end - begin);
            if (count > 1) shape.add_prompt(count - 1, first);
            shape.add_decode(first + count - 1);
            begin = part.end;
        }
        if (!compute(shape)) return;
        take_guesses(wishes);
    }
}

// First what a slot lacks of its text, then the guess before. Who finds no room
// in the batch gets no more guesses.
void DraftModel::plan_pass(std::span<Wish> wishes, std::uint32_t pass) {
    batch_.clear();
    parts_.clear();
    auto const& properties = backend_.properties();
    for (std::size_t i = 0; i < wishes.size(); ++i) {
        auto& wish = wishes[i];
        if (!going_[i] || pass >= wish.depth) continue;
        std::size_t const begin = pass == 0 ? cut(wish.slot, wish.text) : wish.text.size() + pass - 1;
        std::size_t const end = wish.text.size() + pass;
        if (batch_.size() + (end - begin) > properties.batch_max) {
            going_[i] = false;
            continue;
        }
        at(wish.slot).used = ++calls_;
        for (std::size_t at = begin; at < end; ++at) {
            Token const token = at < wish.text.size() ? wish.text[at] : wish.guesses[at - wish.text.size()];
            batch_.push_back({token, static_cast<llama::Position>(at), wish.slot, at + 1 == end});
        }
        parts_.push_back({i, batch_.size()});
    }
}

// Behind the end of an answer, or a token the other model does not have, nothing can be guessed.
void DraftModel::take_guesses(std::span<Wish> wishes) {
    for (auto const& part : parts_) {
        auto const peak = find_peak(backend_.logits(part.end - 1));
        bool const good =
            peak && static_cast<std::size_t>(peak->id) < vocabulary_ && !backend_.is_end_of_generation(peak->id);
        if (good) wishes[part.wish].guesses.push_back(peak->id);
        else going_[part.wish] = false;
    }
}

void DraftModel::forget() {
    for (Slot slot = 0; slot < static_cast<Slot>(sequences_.size()); ++slot) {
        if (!at(slot).held) empty(slot);
    }
}

std::uint32_t DraftModel::held() const {
    return static_cast<std::uint32_t>(
        std::count_if(sequences_.begin(), sequences_.end(), [](Sequence const& one) { return one.held; }));
}

std::uint64_t DraftModel::tokens() const {
    std::uint64_t sum = 0;
    for (auto const& one : sequences_) sum += one.tokens.size();
    return sum;
}

}  // namespace hearth::engine
