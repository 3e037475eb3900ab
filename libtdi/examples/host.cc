// SPDX-License-Identifier: LGPL-2.1-or-later
//
// libtdi in C++: usage: host BUS BDF
//
// Who owns what is said once, in types; then what tdid says of the host, the function it was asked about as JSON, and how long pieces of a
// buffer could be mapped. The headers need no wrapper, and there is none.
//
//     c++ -std=c++17 host.cc $(pkg-config --cflags --libs libtdi)
#include <cstdlib>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>

#include <tdi/client.h>
#include <tdi/runs.h>

namespace {

struct Free {
        void operator()(tdi_client *client) const { tdi_client_free(client); }
        void operator()(tdi_runs *runs) const { tdi_runs_free(runs); }
        void operator()(char *text) const { std::free(text); }
};
using Client = std::unique_ptr<tdi_client, Free>;
using Runs = std::unique_ptr<tdi_runs, Free>;
using Text = std::unique_ptr<char, Free>;

Client connect(const char *bus) {
        tdi_client *made = nullptr;

        if (tdi_client_new(&made) < 0)
                throw std::bad_alloc();
        Client client(made);
        if (tdi_client_connect(client.get(), bus) < 0)
                throw std::runtime_error(tdi_client_error(client.get(), nullptr));
        return client;
}

// A function that fills in a text of ours.
template <typename Function, typename... Arguments>
std::string ask(const Client &client, Function function, Arguments... arguments) {
        char *text = nullptr;

        if (function(client.get(), arguments..., &text) < 0)
                throw std::runtime_error(tdi_client_error(client.get(), nullptr));
        return Text(text).get();
}

// Two stretches of a BAR that lie one behind the other are one run, and one map.
void plan() {
        tdi_runs *made = nullptr;
        const tdi_run *run = nullptr;
        tdi_plan plan{};
        tdi_map map{};

        if (tdi_runs_new(&made) < 0)
                throw std::bad_alloc();
        Runs runs(made);
        if (tdi_runs_add(runs.get(), 0xfe000, 256, 1, TDI_RUN_P2P | TDI_RUN_MMIO) < 0 ||
            tdi_runs_add(runs.get(), 0xfe100, 256, 1, TDI_RUN_P2P | TDI_RUN_MMIO) < 0)
                throw std::runtime_error("no such runs");
        const size_t n = tdi_runs_get(runs.get(), &run);
        plan.iova = 0x100000000;
        if (tdi_plan_begin(&plan, run, n) < 0)
                throw std::runtime_error("no such plan");
        while (tdi_plan_next(&plan, &map))
                std::cout << "map " << map.length << " bytes at " << std::hex << std::showbase << map.iova << std::dec << '\n';
}

} // namespace

int main(int argc, char *argv[]) try {
        tdi_bdf bdf{};
        char name[TDI_BDF_MAX];

        if (argc != 3 || tdi_bdf_parse(argv[2], &bdf) < 0) {
                std::cerr << "usage: " << argv[0] << " BUS BDF\n";
                return 2;
        }
        const Client client = connect(argv[1]);
        std::cout << ask(client, tdi_client_describe_host) << '\n';
        std::cout << tdi_bdf_format(bdf, name) << ": " << ask(client, tdi_client_describe_device, bdf) << '\n';
        plan();
        return 0;
} catch (const std::exception &error) {
        std::cerr << error.what() << '\n';
        return 1;
}
