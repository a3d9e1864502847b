"""Analysis: how good a trajectory is, as pure functions on arrays, and of whole runs at once.

:func:`tito_fast.evaluate` reads runs and references and writes what it found; below it are functions on
arrays.

A *series* is an array (n_frames, n_features) of one trajectory, which may be a memory map; functions
take a sequence of series, never pair frames across the end of one, and walk them in chunks. Lags are
in frames of the series at hand. What a metric needs is summed per *unit* (a replica, or a block of one
long trajectory), so that resampling is a new sum and never a new pass over frames.

======================  ===========================================================================
``features``            torsions of every bond, cosines and sines
``moments``             sums of lagged products, covariances
``tica``                slow coordinates
``divergence``          Jensen–Shannon divergences, coverage, precision
``vamp``                VAMP-2 scores and gap, implied time scales and their error
``markov``              states, transition matrices
``chapman_kolmogorov``  one step of k lags against k steps of one
``correlation``         correlation functions
``convergence``         split R-hat, effective sample size, replica against replica
``resampling``          blocks, bootstrap
``reweighting``         importance weights, effective sample size, weighted averages
``weighted_profiles``   distributions and free energies of weighted samples
``reweighted``          samples with energies: all of that, and its files
``baselines``           noise floor of MD, ideal sampler
``decay``               time of the slowest process, with its interval
``interpolation``       the interpolation of a Boltzmann prior that agrees with observables
``metric``              the five numbers of each metric
``geometry``            bond lengths, angles, contacts
``evaluation``          whole runs: :func:`tito_fast.evaluate`
``jobs``, ``sources``   which run with which reference; what may be read
``recording``           one pass over frames (``streams``): torsions to disk, geometry counted
``steps``               pairs of frames for lags that are not all equal
``comparison``          run beside reference: lags, slow coordinates, units of resampling
``static_metrics``      of distributions
``kinetic_metrics``     of dynamics
``replica_metrics``     of a run by itself
``aggregate``           many molecules in one table
``panel``, ``report``   the picture (``pictures``) and the page (``descriptions``)
``output``              files on disk
======================  ===========================================================================
"""
