#include "sim/baselines.h"

#include <algorithm>
#include <deque>
#include <map>
#include <numeric>
#include <optional>
#include <utility>

#include "base/assert.h"

namespace hearth::sim {
namespace {

using Text = std::vector<Segment>;

constexpr std::uint64_t kAnswer = 0xA5A5A5A500000000ULL;  // seeds of answers, beside those of prompts
constexpr double kSimilarityMin = 0.1;                    // slot_prompt_similarity
constexpr double kKeepBeforeSaving = 0.5;                 // a slot that would keep less is saved first
constexpr double kKeepMin = 0.25;                         // a saved prompt that would keep less is left alone

std::uint64_t size_of(Text const& text) {
    return std::accumulate(text.begin(), text.end(), std::uint64_t{0},
                           [](std::uint64_t sum, Segment const& segment) { return sum + segment.tokens; });
}

// Segments of one seed share the tokens of the shorter; others begin differently.
std::uint64_t common_prefix(Text const& a, Text const& b) {
    std::uint64_t common = 0;
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
        if (a[i].seed != b[i].seed) break;
        common += std::min(a[i].tokens, b[i].tokens);
        if (a[i].tokens != b[i].tokens) break;
    }
    return common;
}

// The prompts in order of arrival; a chat's turn follows the one before.
class Texts {
public:
    explicit Texts(Workload const& workload) : workload_(workload), prompts_(workload.jobs.size()) {}

    Text const& prompt(std::size_t index) {
        auto const& job = workload_.jobs[index];
        auto& prompt = prompts_[index];
        if (job.continues) prompt = with_answer(job.after);
        prompt.insert(prompt.end(), job.prompt.begin(), job.prompt.end());
        return prompt;
    }
    [[nodiscard]] Text with_answer(std::size_t index) const {
        Text text = prompts_[index];
        text.push_back({kAnswer + index, workload_.jobs[index].output_tokens});
        return text;
    }

private:
    Workload const& workload_;
    std::vector<Text> prompts_;
};

// Jobs as they would arrive: the time of those that wait for others is taken from theirs.
std::vector<std::size_t> arrivals(Workload const& workload) {
    std::vector<double> at_ms;
    at_ms.reserve(workload.jobs.size());
    for (auto const& job : workload.jobs) at_ms.push_back(job.at_ms + (job.after == kNoJob ? 0 : at_ms[job.after]));
    std::vector<std::size_t> order(workload.jobs.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(),
              [&](auto a, auto b) { return std::pair(at_ms[a], a) < std::pair(at_ms[b], b); });
    return order;
}

class Server {
public:
    explicit Server(LlamaServer const& limits) : limits_(limits), slots_(limits.slots) {}

    // Tokens of `prompt` that are reused.
    std::uint64_t reuse(Text const& prompt) {
        Slot& slot = choose(prompt);
        std::uint64_t const reused = std::min(common_prefix(slot.text, prompt), size_of(prompt) - 1);
        if (limits_.ram_cells > 0) save_idle();
        return reused;
    }

    // The slot that was chosen last holds `text` now; others make room.
    void hold(Text text) {
        slots_[chosen_].text = std::move(text);
        slots_[chosen_].used_at = ++now_;
        std::uint64_t used = 0;
        for (auto const& slot : slots_) used += size_of(slot.text);
        for (std::size_t i = 0; i < slots_.size() && used > limits_.kv_cells; ++i) {
            if (i == chosen_) continue;
            used -= size_of(slots_[i].text);
            slots_[i].text.clear();
        }
    }

private:
    struct Slot {
        Text text;
        std::uint64_t used_at = 0;
    };

    // The most similar slot, or the one that was used longest ago; with a saved
    // prompt in it, when little of its own would be kept and a saved one is better.
    Slot& choose(Text const& prompt) {
        auto const size = static_cast<double>(size_of(prompt));
        std::optional<std::size_t> best;
        double similarity = kSimilarityMin;
        for (std::size_t i = 0; i < slots_.size(); ++i) {
            double const like = static_cast<double>(common_prefix(slots_[i].text, prompt)) / size;
            if (like > similarity) best = i, similarity = like;
        }
        double keep = 0;
        if (best) {
            keep = similarity * size / static_cast<double>(size_of(slots_[*best].text));
        } else {
            auto const oldest = std::min_element(slots_.begin(), slots_.end(),
                                                 [](auto const& a, auto const& b) { return a.used_at < b.used_at; });
            best = static_cast<std::size_t>(oldest - slots_.begin());
        }
        chosen_ = *best;
        Slot& slot = slots_[chosen_];
        if (limits_.ram_cells > 0 && keep < kKeepBeforeSaving) {
            save(slot.text);
            load(slot, prompt);
        }
        return slot;
    }

    // With a cache in RAM the idle slots are saved and emptied when a request starts.
    void save_idle() {
        for (std::size_t i = 0; i < slots_.size(); ++i) {
            if (i == chosen_) continue;
            save(slots_[i].text);
            slots_[i].text.clear();
        }
    }

    void save(Text const& text) {
        std::uint64_t const size = size_of(text);
        if (size == 0 || size > limits_.ram_cells) return;
        for (auto const& entry : saved_) {
            if (common_prefix(entry, text) == size) return;
        }
        std::erase_if(saved_, [&](Text const& entry) {
            bool const contained = common_prefix(entry, text) == size_of(entry);
            if (contained) saved_cells_ -= size_of(entry);
            return contained;
        });
        while (!saved_.empty() && saved_cells_ + size > limits_.ram_cells) {
            saved_cells_ -= size_of(saved_.front());
            saved_.pop_front();
        }
        saved_.push_back(text);
        saved_cells_ += size;
    }

    // Takes the saved prompt that is better than the slot's in both respects.
    void load(Slot& slot, Text const& prompt) {
        auto const size = static_cast<double>(size_of(prompt));
        auto const common = static_cast<double>(common_prefix(slot.text, prompt));
        double keep = slot.text.empty() ? -1 : common / static_cast<double>(size_of(slot.text));
        double like = common / size;
        auto best = saved_.end();
        for (auto entry = saved_.begin(); entry != saved_.end(); ++entry) {
            auto const shared = static_cast<double>(common_prefix(*entry, prompt));
            double const entry_keep = shared / static_cast<double>(size_of(*entry));
            if (entry_keep < kKeepMin || entry_keep <= keep || shared / size <= like) continue;
            keep = entry_keep;
            like = shared / size;
            best = entry;
        }
        if (best == saved_.end()) return;
        saved_cells_ -= size_of(*best);
        slot.text = std::move(*best);
        saved_.erase(best);
    }

    LlamaServer limits_;
    std::vector<Slot> slots_;
    std::size_t chosen_ = 0;
    std::uint64_t now_ = 0;
    std::deque<Text> saved_;
    std::uint64_t saved_cells_ = 0;
};

}  // namespace

PromptTokens unbounded_cache(Workload const& workload) {
    // Nodes of a trie of segments: the child of a node by seed, and the most tokens of it seen.
    struct Node {
        std::uint32_t id;
        std::uint32_t tokens;
    };
    std::map<std::pair<std::uint32_t, std::uint64_t>, Node> nodes;
    std::uint32_t ids = 0;
    for (auto const& job : workload.jobs) ids = std::max(ids, job.tenant);
    auto const walk = [&](std::uint32_t tenant, Text const& text, bool insert) {
        std::uint64_t known = 0;
        bool whole = true;  // everything up to here was known
        std::uint32_t at = tenant;  // its root: tenants share nothing
        for (auto const& segment : text) {
            auto [found, fresh] = nodes.try_emplace({at, segment.seed}, Node{0, 0});
            Node& node = found->second;
            if (fresh) node.id = ++ids;
            if (whole) known += std::min(node.tokens, segment.tokens);
            whole = whole && node.tokens == segment.tokens;
            if (insert) node.tokens = std::max(node.tokens, segment.tokens);
            at = node.id;
        }
        return known;
    };
    PromptTokens result;
    Texts texts(workload);
    for (std::size_t const index : arrivals(workload)) {
        auto const& prompt = texts.prompt(index);
        std::uint32_t const tenant = workload.jobs[index].tenant;
        std::uint64_t const size = size_of(prompt);
        result.total += size;
        result.computed += size - std::min(walk(tenant, prompt, false), size - 1);
        (void)walk(tenant, texts.with_answer(index), true);
    }
    return result;
}

PromptTokens llama_server(Workload const& workload, LlamaServer const& limits) {
    HEARTH_ASSERT(limits.slots > 0, "a server has a slot");
    PromptTokens result;
    Texts texts(workload);
    Server server(limits);
    for (std::size_t const index : arrivals(workload)) {
        auto const& prompt = texts.prompt(index);
        std::uint64_t const size = size_of(prompt);
        result.total += size;
        result.computed += size - server.reuse(prompt);
        server.hold(texts.with_answer(index));
    }
    return result;
}

}  // namespace hearth::sim
