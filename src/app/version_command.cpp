#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/cli.h"
#include "app/commands.h"
#include "app/environment.h"
#include "llama/cpu_variants.h"
#include "llama/libllama_backend.h"

namespace hearth::app {

int version(bool json) {
    auto const upstream = llama::upstream_version();
    auto const variants = llama::cpu_variants();
    auto const chosen = llama::choose_cpu_variant("");
    auto const in_use = chosen ? chosen.value() : std::string();
    if (json) {
        auto list = nlohmann::ordered_json::array();
        for (auto const& variant : variants)
            list.push_back(
                {{"name", variant.name}, {"runs_here", variant.runnable}, {"chosen", variant.name == in_use}});
        nlohmann::ordered_json const object{
            {"hearth", HEARTH_VERSION}, {"llama.cpp", upstream}, {"cpu_variants", list}};
        return write_out(object.dump(2) + '\n');
    }
    auto text = fmt::format("Hearth {}\nllama.cpp {}\nCPU kernels:", HEARTH_VERSION, upstream);
    for (auto const& variant : variants) {
        text += ' ' + variant.name;
        if (variant.name == in_use) text += " (in use)";
        else if (!variant.runnable) text += " (not on this machine)";
    }
    return write_out(text + '\n');
}

}  // namespace hearth::app
