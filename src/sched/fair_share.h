// FairShare: whose turn it is, so that tenants get computing by weight.
//
// Each tenant has an account of what was computed for it, divided by its weight;
// the one with the least goes next. A tenant that was away does not save up: when
// it comes back its account is raised to the least of those that stayed. This is
// the accounting form of deficit round robin (Shreedhar and Varghese 1995) and of
// virtual-time fair queueing: over any time in which two tenants always wait, what
// they get differs from their weights by at most one step's work.
//
// Threads: one. Limits: an account per tenant with work inside, nothing else.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace hearth::sched {

class FairShare {
public:
    // Weights of tenants that do not weigh 1. REQUIRES: each is above 0
    explicit FairShare(std::vector<std::pair<std::string, double>> const& weights = {});

    // A request of the tenant comes in; leaves again. The account lives while one is inside.
    void enter(std::string const& tenant);
    void leave(std::string const& tenant);

    // `work` was computed for it. REQUIRES: it is inside
    void charge(std::string const& tenant, double work);

    // Work done, by weight: the least goes next. REQUIRES: it is inside
    [[nodiscard]] double account(std::string const& tenant) const;

    struct Share {
        std::string tenant;
        double weight = 1;
        double work = 0;  // since it came in, not divided by its weight
        std::uint32_t requests = 0;
    };
    [[nodiscard]] std::vector<Share> shares() const;

private:
    struct Account {
        double weight = 1;
        double used = 0;
        double work = 0;
        std::uint32_t requests = 0;
    };
    std::unordered_map<std::string, double> weights_;
    std::unordered_map<std::string, Account> accounts_;
    double floor_ = 0;  // where those who come in begin
};

}  // namespace hearth::sched
