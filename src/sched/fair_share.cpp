#include "sched/fair_share.h"

#include <algorithm>
#include <limits>

#include "base/assert.h"

namespace hearth::sched {

FairShare::FairShare(std::vector<std::pair<std::string, double>> const& weights) {
    for (auto const& [tenant, weight] : weights) {
        HEARTH_ASSERT(weight > 0, "a tenant without weight would never be served");
        weights_[tenant] = weight;
    }
}

void FairShare::enter(std::string const& tenant) {
    auto const [found, fresh] = accounts_.try_emplace(tenant);
    auto& account = found->second;
    ++account.requests;
    if (!fresh) return;
    auto const weight = weights_.find(tenant);
    if (weight != weights_.end()) account.weight = weight->second;
    double least = std::numeric_limits<double>::infinity();
    for (auto const& [name, other] : accounts_) {
        if (name != tenant) least = std::min(least, other.used);
    }
    // Alone, it goes on where the last one stopped: who alternates gains nothing.
    if (least < std::numeric_limits<double>::infinity()) floor_ = std::max(floor_, least);
    account.used = floor_;
}

void FairShare::leave(std::string const& tenant) {
    auto const found = accounts_.find(tenant);
    HEARTH_ASSERT(found != accounts_.end(), "who leaves came in");
    if (--found->second.requests > 0) return;
    if (accounts_.size() == 1) floor_ = std::max(floor_, found->second.used);
    accounts_.erase(found);
}

void FairShare::charge(std::string const& tenant, double work) {
    auto const found = accounts_.find(tenant);
    HEARTH_ASSERT(found != accounts_.end(), "work is done for those inside");
    found->second.used += work / found->second.weight;
    found->second.work += work;
}

double FairShare::account(std::string const& tenant) const {
    auto const found = accounts_.find(tenant);
    HEARTH_ASSERT(found != accounts_.end(), "only those inside have an account");
    return found->second.used;
}

std::vector<FairShare::Share> FairShare::shares() const {
    std::vector<Share> out;
    out.reserve(accounts_.size());
    for (auto const& [tenant, account] : accounts_)
        out.push_back({tenant, account.weight, account.work, account.requests});
    std::ranges::sort(out, {}, &Share::tenant);
    return out;
}

}  // namespace hearth::sched
