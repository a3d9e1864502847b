#include "bindings.h"
#include "brownian/brownian.h"

namespace tito_fast {

using namespace pybind11::literals;

void bind_brownian(py::module_& module) {
  py::enum_<BrownianPotential>(module, "BrownianPotential")
      .value("PRINZ", BrownianPotential::kPrinz)
      .value("MULLER_BROWN", BrownianPotential::kMullerBrown)
      .value("HARMONIC", BrownianPotential::kHarmonic);
  module.def(
      "brownian_cpu",
      [](BrownianPotential potential, bool is_double, double stiffness, double drift,
         double amplitude, std::uint64_t seed, std::int64_t first_trajectory,
         std::int64_t n_trajectories, std::int64_t n_frames, std::int64_t steps_per_frame,
         std::int64_t burn_in_steps, std::int64_t first_step, std::int64_t end_step, Address state,
         Address frames, int n_threads) {
        const py::gil_scoped_release release;
        brownian_cpu({potential, is_double, stiffness, drift, amplitude, seed, first_trajectory,
                      n_trajectories, n_frames, steps_per_frame, burn_in_steps, first_step,
                      end_step, pointer<void>(state), pointer<void>(frames)},
                     n_threads);
      },
      "potential"_a, "is_double"_a, "stiffness"_a, "drift"_a, "amplitude"_a, "seed"_a,
      "first_trajectory"_a, "n_trajectories"_a, "n_frames"_a, "steps_per_frame"_a,
      "burn_in_steps"_a, "first_step"_a, "end_step"_a, "state"_a, "frames"_a, "n_threads"_a);
  module.def(
      "brownian_normals_cpu",
      [](std::uint64_t seed, std::uint32_t dim, std::int64_t n_trajectories, std::int64_t n_steps,
         Address normals) {
        const py::gil_scoped_release release;
        brownian_normals_cpu(seed, dim, n_trajectories, n_steps, pointer<float>(normals));
      },
      "seed"_a, "dim"_a, "n_trajectories"_a, "n_steps"_a, "normals"_a);
}

}  // namespace tito_fast
